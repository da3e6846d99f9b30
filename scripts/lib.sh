# Functions that the scripts share. To be sourced by bash from the root of the
# repository.

readonly SANDBOX_PROJECT=${SANDBOX_PROJECT:-escrowctl-sandbox}
readonly POSTGRES_IMAGE=escrowctl-sandbox/postgres:15
readonly REDIS_IMAGE=escrowctl-sandbox/redis:7
readonly S3_IMAGE=escrowctl-sandbox/s3:latest
readonly NGINX_IMAGE=escrowctl-sandbox/nginx:latest
readonly CERTBOT_IMAGE=escrowctl-sandbox/certbot:latest
readonly PEBBLE_IMAGE=escrowctl-sandbox/pebble:latest
readonly PLATFORM_IMAGE=escrowctl-sandbox/platform:latest
readonly ESCROWCTL_IMAGE=escrowctl-sandbox/escrowctl:latest
readonly CLIENT_IMAGE=escrowctl-sandbox/client:15
readonly MONITORING_IMAGE=escrowctl-sandbox/monitoring:latest
readonly HOST_IMAGE=escrowctl-sandbox/host:latest

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
	say "$@"
	exit 1
}

# as_root runs a command as root.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "$1 needs root: run as root, or install sudo"
	fi
}

# need_docker ends the script unless this user reaches a Docker Engine.
need_docker() {
	command -v docker >/dev/null || die "no docker command: apt-get install docker.io, or see docs.docker.com/engine/install"
	docker version >/dev/null 2>&1 || die "no Docker Engine answers: start it (systemctl start docker), and be root or in the group docker"
}

# compose is Compose v2 where it is installed, else v1.
compose() {
	if docker compose version >/dev/null 2>&1; then
		docker compose "$@"
	else
		docker-compose "$@"
	fi
}

# tools_dir is the cache of the tools that are built from source.
tools_dir() {
	printf '%s\n' "${ESCROWCTL_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/escrowctl-tools}"
}

# tool_path is where a tool of internal/testenv/tools.txt is, or will be.
tool_path() {
	awk -v name="$1" -v dir="$(tools_dir)" '
		$1 == name { print dir "/" $1 "@" $3 "/" $1; found = 1 }
		END { exit !found }' internal/testenv/tools.txt || die "$1 is not in internal/testenv/tools.txt"
}

# deb_version makes of `git describe` a version that sorts as Debian compares:
# v1.2.3 is 1.2.3, four commits on 1.2.3+4.gabc, v1.2.3-rc1 is 1.2.3~rc1, and
# without any tag it is 0~ with the commit's time.
deb_version() {
	local v=${1#v} dirty=
	if [[ $v == *-dirty ]]; then v=${v%-dirty} dirty=+dirty; fi
	case $v in
	[0-9]*.*-[0-9]*-g*) v=${v/-/+} v=${v/-g/.g} ;;
	[0-9]*.*-*) v=${v/-/\~} ;;
	[0-9]*.*) ;;
	*) v=0~$(TZ=UTC0 date -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$v ;;
	esac
	printf '%s\n' "$v$dirty"
}

# only_one waits until no other run of this script by this user is left, and
# keeps others waiting until the script ends.
only_one() {
	mkdir -p "$(tools_dir)"
	exec 9>"$(tools_dir)/${0##*/}.lock"
	flock 9
}
