# Finds the server that HOST:PORT means inside this container, says so on
# standard error, and is or becomes a pump between it and the standard streams.
#
#   sh -c tunnel.sh NAME find|pump tcp|unix HOST|SOCKET PORT TOOLS PERL BASH
#
# Signals and orphans: see watch.sh.
# Exit 69 (EX_UNAVAILABLE): no server there. 127: nothing to pump with.
mode=$1 network=$2 host=$3 port=$4 tools=$5 perl=$6 bash=$7

# With a trap the shell outlives what it waits for, and leaves no orphan.
trap 'exit 143' TERM

have() { command -v "$1" >/dev/null 2>&1; }

# usable TOOL NETWORK: is it here, and able to do that?
usable() {
	case $1 in
	perl) have perl ;;
	busybox) [ "$2" = tcp ] && case $($(busybox_nc) --help 2>&1) in *BusyBox*) true ;; *) false ;; esac ;;
	bash) [ "$2" = tcp ] && have bash && have cat ;;
	esac
}

busybox_nc() { if have busybox; then echo busybox nc; else echo nc; fi; }

limit=''
if have timeout; then limit='timeout 10'; fi

# probe TOOL NETWORK ADDRESS: a connection and its end, without a byte.
probe() {
	case $1/$2 in
	busybox/*) $limit $(busybox_nc) "$3" "$port" ;;
	bash/*) $limit bash -c "$bash" bash probe "$3" "$port" ;;
	esac </dev/null 2>&1 >/dev/null
}

# found TOOL NETWORK ADDRESS: the end of the search.
found() {
	echo "escrowctl: ready $$ $1 $2 $3" >&2
	[ "$mode" = pump ] || exit 0
	case $1/$2 in
	busybox/*) exec $(busybox_nc) "$3" "$port" ;;
	bash/*) exec bash -c "$bash" bash pump "$3" "$port" ;;
	esac
}

# all_in_one NETWORK ADDRESS: perl looks, says so and pumps in one start, which
# costs as much as all the rest. It is no successor of this shell but its child,
# as it may turn out that it cannot: false.
all_in_one() {
	perl -e "$perl" "$mode" "$1" "$2" "$port"
	code=$?
	case $code in
	3) return 1 ;;
	1) ;; # no server there
	*) exit "$code" ;;
	esac
}

missing=yes
# try NETWORK ADDRESS
try() {
	for tool in $tools; do
		usable "$tool" "$1" || continue
		if [ "$tool" = perl ]; then
			all_in_one "$1" "$2" || continue
		elif why=$(probe "$tool" "$1" "$2"); then
			found "$tool" "$1" "$2"
		else
			echo "$2: ${why:-no connection ($tool)}" >&2
		fi
		missing=no
		return
	done
}

if [ "$network" = unix ]; then
	try unix "$host"
else
	own=no # yes: the address means the server in this very container
	case $host in
	localhost | 127.* | ::1) own=yes ;;
	*:*) ;;
	*[!0-9.]*)
		address=$(getent hosts "$host" 2>/dev/null)
		address=${address%%[[:space:]]*}
		if [ -n "$address" ]; then
			for a in $(hostname -i 2>/dev/null); do [ "$a" = "$address" ] && own=yes; done
		elif have getent || case $host in *.*) false ;; esac; then
			# A name with a dot is another machine's: to fall back on the
			# server at hand would be to back up the wrong database.
			case $host in
			*.*)
				echo "$host does not resolve inside the container" >&2
				exit 69
				;;
			esac
			host=127.0.0.1 own=yes
		fi
		;;
	esac
	try tcp "$host"
	if [ "$own" = yes ]; then
		[ "$host" = 127.0.0.1 ] || try tcp 127.0.0.1
		for dir in /var/run/postgresql /run/postgresql /tmp; do
			if [ -S "$dir/.s.PGSQL.$port" ]; then try unix "$dir/.s.PGSQL.$port"; fi
		done
	fi
fi
if [ "$missing" = yes ]; then
	echo "nothing in the container to reach a $network address with (tried: $tools)" >&2
	exit 127
fi
exit 69
