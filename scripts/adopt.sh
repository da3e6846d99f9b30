#!/usr/bin/env bash
# The way in, for real: a Debian machine without Go beside a platform. Installs
# the package, lets doctor name what is missing and does what it says, runs a
# night of the crontab rows as cron would, types the blocks of README and docs that
# need a platform, asks shift-check, removes and purges the package, and looks for
# what is left.
#
#   adopt.sh [PACKAGE.deb]      (built if none is named)
#
# The platform is a sandbox of its own, which goes at the end, as the machine
# does: a container on the host's network, which has the Docker socket.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
cp -r deploy/sandbox "$work/platform"
rm -rf "$work/platform/.env" "$work/platform/.run"
export SANDBOX_PROJECT=escrowctl-adopt-$$ SANDBOX_DIR=$work/platform
. scripts/lib.sh
. scripts/sandbox.sh

machine=
finish() {
	local code=$?
	trap '' INT TERM
	[ -z "$machine" ] || docker rm -f -v "$machine" >/dev/null
	KEEP_IMAGES=1 scripts/demo-down.sh 2>/dev/null || code=1
	rm -rf "$work"
	exit "$code"
}
trap finish EXIT

# on runs a command on the machine as root, at a shell without a terminal.
on() { docker exec -i "$machine" "$@"; }

# ends runs a command on the machine, shows what it says, and ends the proof
# unless its exit code is the one that is wanted.
ends() {
	local want=$1 code=0
	shift
	printf '$ %s\n' "$*"
	on "$@" 2>&1 | tee "$work/said" || code=${PIPESTATUS[0]}
	[ "$code" -eq "$want" ] || die "$* ended with $code, not $want"
}

said() { grep -qF -- "$1" "$work/said" || die "it does not say: $1"; }

# documented prints the block N of the COUNT blocks of a page that say that this
# script runs them: documented PAGE N COUNT.
documented() {
	awk -v n="$2" -v count="$3" '
		open && /^ *```$/ { open = 0 }
		open && found == n { print substr($0, indent) }
		marked && /^ *```/ { open = 1; found++; indent = match($0, /`/) }
		{ marked = /^ *<!-- run by scripts\/adopt\.sh -->$/ }
		END { exit found != count }' "$1" || die "$1 has not $3 blocks that are run here"
}

# types runs a block of a page on the machine: types PAGE N COUNT. escrowctl may
# warn, and its analyses may find something.
types() {
	local block
	block=$(documented "$@")
	ends 0 bash -c 'set -e -o pipefail
		escrowctl() {
			local code=0
			command escrowctl "$@" || code=$?
			case "$1 $2" in "perf analyze" | "rotate-keys due") [ $code -le 2 ] ;; *) [ $code -le 1 ] ;; esac
		}
		'"$block"
}

# paths are all files of the machine, but for those that dpkg and apt keep for
# themselves.
paths() {
	on find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/lib/dpkg -o -path /var/cache -o -path "$work" \) -prune \
		-o ! -path /var/log/dpkg.log ! -path /var/log/alternatives.log ! -path '/etc/.pwd.lock' -printf '%p %y %m %u:%g\n' | sort
}

start_machine() {
	machine=$(docker run -d --init --network host --hostname adopt \
		--label "com.docker.compose.project=$SANDBOX_PROJECT-machine" \
		-v /var/run/docker.sock:/var/run/docker.sock -v "$SANDBOX_DIR:$SANDBOX_DIR:ro" "$HOST_IMAGE" cron -f)
	! on sh -c 'command -v go gcc make' || die "the machine has a compiler: it proves nothing"
	paths >"$work/before"
}

install_package() {
	docker cp "$1" "$machine:/tmp/escrowctl.deb" >/dev/null
	ends 0 dpkg -i /tmp/escrowctl.deb
	on sh -c 'umask 077 && cat >/etc/escrowctl/escrowctl.yaml' <<-YAML
		env: staging
		compose: {project: $SANDBOX_PROJECT, dir: $SANDBOX_DIR, env_file: .env}
		dump: {via: container}
		s3: {storage_class: ""}
		dr_test: {image: $POSTGRES_IMAGE}
		report: {api_metrics: "on", textfile_dir: /var/lib/prometheus/node-exporter}
	YAML
}

# consult runs doctor until it is content, doing each time what it says.
consult() {
	ends 2 escrowctl doctor
	said 'no crontab runs escrowctl backup'
	said 'escrowctl cron install'
	said 'install -d -m 0755 -o root /var/lib/prometheus/node-exporter'
	ends 0 install -d -m 0755 -o root /var/lib/prometheus/node-exporter
	ends 0 escrowctl cron install
	ends 0 escrowctl doctor --write-bucket
}

# night runs the rows of the crontab as cron does, in their order from midnight
# on. A finding of the analysis is no failure of the row.
night() {
	local row command code worst
	on crontab -l | grep -v '^#' | sort -n -k2,2 -k1,1 >"$work/rows"
	[ "$(wc -l <"$work/rows")" -eq 5 ] || die "there are not five rows: $(cat "$work/rows")"
	while IFS= read -r row; do
		command=$(printf '%s\n' "$row" | sed -E 's/^([^ ]+ ){5}//')
		case $command in *' perf analyze '*) worst=2 ;; *) worst=0 ;; esac
		code=0
		printf 'cron: %s\n' "$command"
		docker exec "$machine" env -i HOME=/root LOGNAME=root SHELL=/bin/sh PATH=/usr/bin:/bin /bin/sh -c "$command" </dev/null || code=$?
		[ "$code" -le "$worst" ] || {
			log=${command##*>> }; on tail -n 20 "${log%% *}"
			die "the row ended with $code: $command"
		}
	done <"$work/rows"
	ends 0 escrowctl cron list
	! grep -q never "$work/said" || die "not every row has run"
}

shift_check() {
	rotated API_KEYS
	ends 0 escrowctl shift-check
	! grep -q '^off' "$work/said" || die "a check was left out"
}

# rotated notes that secrets were made with the sandbox.
rotated() {
	local secret
	for secret; do
		on escrowctl rotate-keys record "$secret" --why 'made with the sandbox' >/dev/null
	done
}

# monitored runs each job once, as the page has it, and sees that each is reported.
monitored() {
	local job
	rotated POSTGRES_PASSWORD REDIS_PASSWORD ADMIN_KEYS GRAFANA_ADMIN_PASSWORD S3 # "and the others"
	on sh -c 'rm -f /var/lib/prometheus/node-exporter/*'
	types docs/monitoring.md 1 2
	for job in backup backup_verify dr_test certs_check perf secrets; do
		on test -s "/var/lib/prometheus/node-exporter/escrowctl_$job.prom" || die "$job is not reported"
	done
}

# proven asks whether the alert that always fires has arrived.
proven() {
	types docs/monitoring.md 2 2
	said 'delivery proven by Watchdog'
}

# shape makes the words of a shift check, without what differs from one platform and
# day to the next: names, figures, and what is said of a check that is ok.
shape() {
	tr -d '\r' | sed -E 's/^(ok +[a-z-]+ ).*/\1/' | tr -s '\n ' '  ' | sed -E "
		s/escrowctl-sandbox|$SANDBOX_PROJECT/PROJECT/g
		s/[^ ]+@[^ ]+/SOMEBODY/g
		s/[A-Z][a-z]{2} [0-9]+ [A-Z][a-z]{2} ([0-9:]+ UTC)/\1/g
		s/[0-9]+ ?(s|min) (ago|left)/AGE \2/g
		s/[0-9]+/N/g" | tr ' ' '\n'
}

# sample has somebody check, stops the api, and compares what shift-check tells the
# next with what the README shows.
sample() {
	local text command person code
	text=$(documented README.md 1 1)
	command=$(sed -n 's/^\$ //p' <<<"$text")
	for person in alice bob; do
		code=0
		docker exec -t -e TERM=dumb -e USER="$person" -e ESCROWCTL_SHIFT_CHECK_SKIP=schedule "$machine" \
			sh -c "stty cols 80 && $command" >"$work/said" || code=$?
		printf '$ %s\n%s\n' "$command" "$(cat "$work/said")"
		[ "$person $code" = 'alice 0' ] || break
		sandbox_compose stop api
	done
	[ "$person $code" = 'bob 2' ] || die "$command of $person ended with $code"
	diff <(sed '/^\$ /d' <<<"$text" | shape) <(shape <"$work/said") || die "README.md shows another shift check"
}

# remove_package removes and purges, and compares the machine with what it was.
# What may stay are backups, history, logs and metrics.
remove_package() {
	ends 0 dpkg -r escrowctl
	[ -z "$(on crontab -l 2>/dev/null)" ] || die "rows are left in the crontab"
	on test -f /etc/escrowctl/escrowctl.yaml || die "the configuration went before a purge"
	ends 0 dpkg -P escrowctl
	paths >"$work/after"
	diff "$work/before" "$work/after" | grep '^[<>]' >"$work/changed" || true
	if grep -vE '^> /(var/backups/stellarescrow|var/lib/escrowctl|var/lib/prometheus|var/log/(stellar-backup|stellar-dr-test|cert-renewal|perf-report)\.log)[/ ]' "$work/changed"; then
		die "that is left behind, or gone"
	fi
	grep -q '^> /var/backups/stellarescrow/stellar_escrow_.*\.sql\.gz ' "$work/changed" || die "the backups are gone"
	local left
	left=$(docker ps -aq --filter label=escrowctl.dr-test.host=adopt)
	[ -z "$left" ] || die "recovery tests left containers: $left"
	printf 'nothing is left but data: %d files of backups, history, logs and metrics\n' "$(grep -c ' f ' "$work/changed")"
}

need_docker
started=$SECONDS
deb=${1:-}
if [ -z "$deb" ]; then
	DIST=$work/dist scripts/release.sh "$(go env GOARCH)"
	deb=$(echo "$work"/dist/*.deb)
fi
start_services
# Where backups and state lie is the machine's own affair.
sed -i '/^BACKUP_DIR=/d; /^ESCROWCTL_STATE_DIR=/d; /^ESCROWCTL_CONFIG=/d' "$SANDBOX_ENV"
start_machine
say "the platform stands after $((SECONDS - started)) s"
install_package "$deb"
consult
night
monitored
shift_check
proven
sample
remove_package
say "adopted and removed in $((SECONDS - started)) s"
