# Cleans up after a test process that died. Lines on standard input say what
# there is; the end of the input without "done" means that the process is gone.
#   pid N SIGNAL   the server's process and the signal that stops it (N=0: none)
#   label NAME=X   containers, networks and volumes with this label to remove, as
#                  with those told before
#   volume NAME    a volume to remove, as are those told before
#   dir PATH       a directory to remove
#   done           everything is cleaned up already
# Signals that a terminal or a CI runner sends to the whole group are for the
# test process alone: this one goes by its input.
trap '' INT TERM HUP QUIT PIPE
pid=0 sig=KILL dir= labels= volumes=
while read -r word a b; do
	case $word in
	pid) pid=$a sig=$b ;;
	label) labels="$labels $a" ;;
	volume) volumes="$volumes $a" ;;
	dir) dir=$a ;;
	done) exit 0 ;;
	esac
done
if [ "$pid" -gt 1 ] && kill -s "$sig" "$pid" 2>/dev/null; then
	n=0
	while [ $n -lt 50 ] && kill -0 "$pid" 2>/dev/null; do
		sleep 0.1
		n=$((n + 1))
	done
	[ $n -lt 50 ] || kill -s KILL "$pid" 2>/dev/null
fi
for label in $labels; do
	ids=$(docker ps -aq --filter "label=$label")
	[ -z "$ids" ] || docker rm -fv $ids >/dev/null 2>&1
	for kind in network volume; do
		ids=$(docker $kind ls -q --filter "label=$label")
		[ -z "$ids" ] || docker $kind rm $ids >/dev/null 2>&1
	done
done
for volume in $volumes; do # one by one: some may be gone
	docker volume rm -f "$volume" >/dev/null 2>&1
done
[ -z "$dir" ] || rm -rf -- "$dir"
exit 0
