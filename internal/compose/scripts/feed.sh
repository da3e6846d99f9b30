# Tells the caller the process ID, by which it can end the command without
# ending its standard input first, then becomes the command.
echo "escrowctl: started $$" >&2
exec "$@"
