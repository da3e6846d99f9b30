# bash -c pump.bash bash probe|pump ADDRESS PORT
exec 3<>"/dev/tcp/$2/$3" || exit 69
[ "$1" = pump ] || exit 0
# No process may outlive this one and then die by a signal (see watch.sh): with
# SIGPIPE ignored an orphaned cat ends with status 0 or 1.
trap '' PIPE
exec 4<&0
cat <&3 4<&- &
reader=$!
cat <&4 >&3 &
writer=$!
trap 'kill "$reader" "$writer"; wait; exit 0' TERM
exec <&- >&- 2>/dev/null 3<&- 4<&-
# Whichever side ends first ends both: bash cannot half-close a socket.
wait -n
kill "$reader" "$writer"
wait
exit 0
