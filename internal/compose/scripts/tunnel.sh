# Finds the server that HOST:PORT means inside this container, says so on
# standard error, and becomes a pump between it and the standard streams.
#
#   sh -c tunnel.sh NAME find|pump tcp|unix HOST|SOCKET PORT TOOLS PERL BASH
#
# Signals and orphans: see watch.sh.
# Exit 69 (EX_UNAVAILABLE): no server there. 127: nothing to pump with.
mode=$1 network=$2 host=$3 port=$4 tools=$5 perl=$6 bash=$7

have() { command -v "$1" >/dev/null 2>&1; }

# usable TOOL NETWORK: is it here, and able to do that?
usable() {
	case $1 in
	perl) have perl && perl -MSocket=getaddrinfo -e 1 2>/dev/null ;;
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
	perl/*) $limit perl -e "$perl" probe "$2" "$3" "$port" ;;
	busybox/*) $limit $(busybox_nc) "$3" "$port" ;;
	bash/*) $limit bash -c "$bash" bash probe "$3" "$port" ;;
	esac </dev/null 2>&1 >/dev/null
}

# found TOOL NETWORK ADDRESS: the end of the search.
found() {
	echo "escrowctl: ready $$ $1 $2 $3" >&2
	[ "$mode" = pump ] || exit 0
	case $1/$2 in
	perl/*) exec perl -e "$perl" pump "$2" "$3" "$port" ;;
	busybox/*) exec $(busybox_nc) "$3" "$port" ;;
	bash/*) exec bash -c "$bash" bash pump "$3" "$port" ;;
	esac
}

failures='' missing=yes
# try NETWORK ADDRESS
try() {
	for tool in $tools; do
		usable "$tool" "$1" || continue
		missing=no
		if why=$(probe "$tool" "$1" "$2"); then found "$tool" "$1" "$2"; fi
		failures="$failures
$2: ${why:-no connection ($tool)}"
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
printf '%s\n' "${failures#?}" >&2
exit 69
