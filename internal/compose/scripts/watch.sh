# Runs "$@" and ends it when standard input ends, which is what happens when the
# caller cancels, is killed, or loses the engine: otherwise the engine lets the
# command run on with nobody listening. POSIX sh: dash, bash and busybox ash.
#
# Process 1 of the container is often the PostgreSQL server itself, and it takes
# any orphan it inherits for a backend of its own: one that ends by a signal, or
# with a status other than 0 and 1, makes it restart in recovery. So this shell
# outlives and reaps all it has started, and signals nothing but its children.
echo "escrowctl: started $$" >&2
exec 3<&0 </dev/null
"$@" 3<&- &
child=$!
(
	# Nobody ever writes to this stream: read returns at its end.
	read -r _ <&3
	kill -TERM "$child"
	n=0
	while kill -0 "$child" && [ "$n" -lt 25 ]; do
		sleep 0.2 || sleep 1
		n=$((n + 1))
	done
	kill -KILL "$child"
) >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait "$child"
code=$?
{
	kill "$watch"
	wait "$watch"
} 2>/dev/null
exit "$code"
