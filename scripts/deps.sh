#!/usr/bin/env bash
# Installs the Debian packages that the tests need (after --sandbox: those of
# the sandbox) and those of the arguments, each of which has a program of its
# name; only what is missing.
# Nothing that is installed is started, no database cluster is made, and the
# machine's settings are afterwards as before.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

only_one
packages=()
# want package program...: unless all the programs are there.
want() {
	local package=$1 program
	shift
	for program; do
		command -v "$program" >/dev/null || packages+=("$package")
	done
}

want mmdebstrap mmdebstrap
want openssl openssl
want python3 python3
docker compose version >/dev/null 2>&1 || want docker-compose docker-compose
if [ "${1:-}" = --sandbox ]; then
	shift
else
	compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || packages+=(postgresql)
	want redis-server redis-server
	want nginx-light nginx
	want certbot certbot
	want prometheus prometheus
	want prometheus-alertmanager prometheus-alertmanager
	for exporter in node redis postgres blackbox; do
		want "prometheus-$exporter-exporter" "prometheus-$exporter-exporter"
	done
	want cron crontab
	want curl curl
	want jq jq
	want age age
	want systemd systemd-analyze
fi
for name; do
	want "$name" "$name"
done
need_docker
[ ${#packages[@]} -eq 0 ] && exit 0

command -v apt-get >/dev/null || die "missing: ${packages[*]}; this machine has no apt-get, install them by hand"
say "installing ${packages[*]}"

policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.conf
made_policy= saved_cluster=

restore() {
	[ -z "$made_policy" ] || as_root rm -f "$policy"
	[ -z "$saved_cluster" ] || as_root mv -f "$saved_cluster" "$cluster"
}
trap restore EXIT

apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@"; }

# A policy-rc.d that forbids all starts; one that is there is left to rule.
if [ ! -e "$policy" ]; then
	made_policy=1
	printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
	as_root chmod 755 "$policy"
fi
apt update >/dev/null
if [[ " ${packages[*]} " == *" postgresql "* ]]; then
	apt install --no-install-recommends postgresql-common
	saved_cluster=$cluster.escrowctl-saved
	as_root cp -p "$cluster" "$saved_cluster"
	printf 'create_main_cluster = false\n' | as_root tee "$cluster" >/dev/null
fi
apt install --no-install-recommends "${packages[@]}"
