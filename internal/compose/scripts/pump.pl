# perl -e pump.pl find|pump tcp|unix ADDRESS PORT
# Exit 3: this perl lacks what it needs. 1: no server there, which is said: were
# this ever an orphan, the container's process 1 might mind any other (watch.sh).
BEGIN { eval { require Socket; Socket->import(qw(:DEFAULT getaddrinfo)); require Fcntl; Fcntl->import; require Errno; 1 } or exit 3 }
my ($mode, $network, $address, $port) = @ARGV;
my ($sock, $why);
$SIG{PIPE} = "IGNORE";
sub gone { print STDERR "$address: $_[0]\n"; exit 1 }
$SIG{ALRM} = sub { gone("no answer within 10 s") };
alarm 10;
if ($network eq "unix") {
	socket($sock, PF_UNIX, SOCK_STREAM, 0) && connect($sock, pack_sockaddr_un($address)) or $why = $!;
} else {
	(my $err, my @found) = getaddrinfo($address, $port, {socktype => SOCK_STREAM});
	$why = $err || "no address";
	for my $a (@found) {
		socket($sock, $a->{family}, SOCK_STREAM, 0) or next;
		if (connect($sock, $a->{addr})) { $why = ""; last }
		$why = $!;
	}
}
alarm 0;
gone($why) if $why;
print STDERR "escrowctl: ready $$ perl $network $address\n";
exit 0 if $mode eq "find";

# One process, because a second might be orphaned (see watch.sh), and without
# blocking, so that neither direction can hold up the other.
use constant {FULL => 262144, BATCH => 65536};
for my $h (*STDIN, *STDOUT, $sock) { fcntl($h, F_SETFL, fcntl($h, F_GETFL, 0) | O_NONBLOCK) }
# Wide pipes (F_SETPIPE_SZ, 1 MiB) spare most of the waking up.
for my $h (*STDIN, *STDOUT) { fcntl($h, 1031, 1048576) }
my ($in, $out, $srv) = (fileno STDIN, fileno STDOUT, fileno $sock);
my ($up, $down, $fed, $served, $told) = ("", "", 1, 1, 0); # to the server, from it

# take HANDLE, BUFFER: appends what there is to read; false at the end. A server
# sends 8 KiB at a time: several are gathered, if they are there already.
sub take {
	while (1) {
		my $n = sysread($_[0], $_[1], FULL, length $_[1]);
		return $!{EAGAIN} || $!{EINTR} if !defined $n;
		return 0 if !$n;
		return 1 if length $_[1] >= BATCH;
	}
}
# give HANDLE, BUFFER: writes what goes; false when the other side is gone.
sub give {
	my $n = syswrite($_[0], $_[1]);
	return $!{EAGAIN} || $!{EINTR} if !defined $n;
	substr($_[1], 0, $n, "");
	return 1;
}
while ($served || length $down) {
	if (!$fed && !length $up && !$told) { shutdown $sock, 1; $told = 1 }
	my ($r, $w) = ("", "");
	vec($r, $in, 1) = 1 if $fed && length $up < FULL;
	vec($r, $srv, 1) = 1 if $served && length $down < FULL;
	vec($w, $srv, 1) = 1 if length $up;
	vec($w, $out, 1) = 1 if length $down;
	next if select($r, $w, undef, undef) < 0;
	if (vec($r, $in, 1)) { $fed = take(*STDIN, $up) }
	if (vec($r, $srv, 1)) { $served = take($sock, $down) }
	# Most often what was just read can be written at once.
	if (length $up && !give($sock, $up)) { ($up, $fed, $told) = ("", 0, 1) }
	if (length $down) { give(*STDOUT, $down) or last }
}
