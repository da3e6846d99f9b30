#!/usr/bin/env bash
# Builds the container images of tests and sandbox from Debian packages, since
# no registry is needed for that and none may be reachable:
#
#   images.sh [base] [postgres] [redis] [s3] [nginx] [certbot] [pebble] [platform]
#             [monitoring] [host] [escrowctl]   (all by default)
#   images.sh postgres13 | postgres17 (each on a base of its own, a minute and
#             400 MB: for tests of other versions, which skip without them)
#
# Each image carries a label with the hash of its recipe and is rebuilt only
# when the recipe has changed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

readonly RECIPE_LABEL=escrowctl.recipe
readonly SUITE=bookworm
# One base for all: its layer is stored once, whatever the number of images.
readonly BASE_PACKAGES=postgresql-15,redis-server,nginx-light,certbot,prometheus,prometheus-alertmanager,busybox
# The directories of all images are made here: see build.
readonly BASE_SETUP='set -e
	rm -rf /var/lib/postgresql/15 /etc/postgresql/15
	install -d -o postgres -g postgres -m 2775 /var/run/postgresql
	install -d -o postgres -g postgres -m 0700 /var/lib/postgresql/data
	install -d /docker-entrypoint-initdb.d /var/www/certbot /etc/letsencrypt /etc/pebble
	install -d -m 1777 /data'
# A machine on which the package is installed: what Debian has on every server,
# and what the package recommends. No Go, no compiler.
readonly HOST_PACKAGES=ca-certificates,cron,dbus,docker-compose,logrotate,sudo,systemd
readonly CLIENT_PACKAGES=ca-certificates,postgresql-client-15
readonly RECIPES=deploy/sandbox/images

# hash_of is a short hash of the arguments and of the files named by them.
hash_of() {
	local arg
	for arg in "$@"; do
		if [ -f "$arg" ]; then cat "$arg"; else printf '%s\n' "$arg"; fi
	done | sha256sum | cut -c1-16
}

# has_recipe tells whether an image was built from this recipe.
has_recipe() {
	[ "$(docker image inspect -f "{{index .Config.Labels \"$RECIPE_LABEL\"}}" "$1" 2>/dev/null)" = "$2" ]
}

# use_base chooses the Debian release and the packages that images are built on.
use_base() {
	suite=$1 base_packages=$2
	base_key=$(hash_of "$suite" "$base_packages" "$BASE_SETUP" 2)
	base_image=escrowctl-sandbox/base:$base_key
}

# debian image label packages [mmdebstrap option...]: makes a minimal Debian with
# the packages. The base, which demo-down.sh finds by its name, has no label.
debian() {
	local image=$1 label=$2 packages=$3 id
	shift 3
	say "building $image from Debian $suite packages (a minute)"
	# Tagged only once the whole pipe has succeeded: half an image must not
	# pass for a whole one.
	id=$(as_root mmdebstrap --quiet --variant=minbase --include="$packages" \
		--dpkgopt='path-exclude=/usr/share/locale/*' "$@" \
		--format=tar "$suite" - | docker import ${label:+--change "LABEL $RECIPE_LABEL=$label"} -)
	docker tag "$id" "$image"
}

# build_base makes a Debian with the servers of the platform.
build_base() {
	docker image inspect "$base_image" >/dev/null 2>&1 && return
	debian "$base_image" '' "$base_packages" \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--skip=cleanup/run --customize-hook="chroot \"\$1\" sh -c '$BASE_SETUP'"
}

# build_host makes a Debian without the servers, and with man pages.
build_host() {
	local key
	key=$(hash_of "$SUITE" "$HOST_PACKAGES" 1)
	has_recipe "$HOST_IMAGE" "$key" || debian "$HOST_IMAGE" "$key" "$HOST_PACKAGES"
}

# build_client makes a Debian with PostgreSQL's client programs: the base of the
# Dockerfile of escrowctl's own image. Small, for it is read anew for each line.
build_client() {
	local key
	key=$(hash_of "$SUITE" "$CLIENT_PACKAGES" 1)
	has_recipe "$CLIENT_IMAGE" "$key" || debian "$CLIENT_IMAGE" "$key" "$CLIENT_PACKAGES" \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*'
}

# build name image recipe file...: the files, copied into the base, and the
# recipe's settings, in one commit. `docker build` would do the same with a
# commit a line, for each of which some storage drivers read the whole image.
build() {
	local name=$1 image=$2 recipe=$3 key signal word rest file changes
	shift 2
	key=$(hash_of "$base_key" "$@")
	has_recipe "$image" "$key" && return
	build_base
	say "building $image"
	# The one setting that a commit cannot change.
	signal=$(awk '$1 == "STOPSIGNAL" { print $2 }' "$recipe")
	container=$(docker create ${signal:+--stop-signal "$signal"} "$base_image" true)
	changes=(--change "LABEL $RECIPE_LABEL=$key")
	shift
	while read -r word rest; do
		case $word in
		'' | '#'* | ARG | FROM | STOPSIGNAL) ;;
		COPY) for file in "$@"; do docker cp --quiet "$file" "$container:${rest##* }"; done ;;
		CMD | ENTRYPOINT | ENV | EXPOSE | USER | VOLUME) changes+=(--change "$word $rest") ;;
		*) die "$recipe: $word is not understood here" ;;
		esac
	done <"$recipe"
	docker commit "${changes[@]}" "$container" "$image" >/dev/null
	docker rm "$container" >/dev/null
	container=
}

# build_version builds a PostgreSQL of another Debian release: the same recipe,
# with the version in its paths.
build_version() {
	use_base "$2" "postgresql-$1"
	versioned=$(mktemp -d)
	cp "$RECIPES"/postgres/{Dockerfile,docker-entrypoint.sh} "$versioned"
	sed -i "s|/usr/lib/postgresql/15/|/usr/lib/postgresql/$1/|" "$versioned/Dockerfile"
	build "postgres$1" "escrowctl-sandbox/postgres:$1" "$versioned"/{Dockerfile,docker-entrypoint.sh}
	rm -rf "$versioned"
	versioned=
	use_base "$SUITE" "$BASE_PACKAGES"
}

# build_platform builds the program of the platform's stand-ins, static, and
# its image.
build_platform() {
	program=$(mktemp -d)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -buildid=' -o "$program/serve" ./internal/testenv/platform/serve
	build platform "$PLATFORM_IMAGE" "$RECIPES"/platform/Dockerfile "$program/serve"
}

# build_escrowctl builds escrowctl, static, and its image.
build_escrowctl() {
	rm -rf ${program:+"$program"}
	program=$(mktemp -d)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -buildid=' -o "$program/escrowctl" ./cmd/escrowctl
	local key
	cp deploy/image/{Dockerfile,entrypoint.sh} "$program"
	key=$(hash_of "$CLIENT_IMAGE" "$program"/*)
	has_recipe "$ESCROWCTL_IMAGE" "$key" && return
	build_client
	say "building $ESCROWCTL_IMAGE"
	# As users build it, from the Dockerfile as it stands.
	DOCKER_BUILDKIT=0 docker build --quiet --build-arg "BASE=$CLIENT_IMAGE" \
		--label "$RECIPE_LABEL=$key" --tag "$ESCROWCTL_IMAGE" "$program" >/dev/null
}

container= program= versioned=
trap '[ -z "$container" ] || docker rm -f "$container" >/dev/null; rm -rf ${program:+"$program"} ${versioned:+"$versioned"}' EXIT
use_base "$SUITE" "$BASE_PACKAGES"
need_docker
only_one
[ $# -gt 0 ] || set -- postgres redis s3 nginx certbot pebble platform monitoring host escrowctl
for name in "$@"; do
	case $name in
	base) build_base ;;
	postgres) build postgres "$POSTGRES_IMAGE" "$RECIPES"/postgres/{Dockerfile,docker-entrypoint.sh} ;;
	postgres13) build_version 13 bullseye ;;
	postgres17) build_version 17 trixie ;;
	redis) build redis "$REDIS_IMAGE" "$RECIPES"/redis/Dockerfile ;;
	s3) build s3 "$S3_IMAGE" "$RECIPES"/s3/{Dockerfile,entrypoint.sh} "$(tool_path versitygw)" ;;
	nginx) build nginx "$NGINX_IMAGE" "$RECIPES"/nginx/Dockerfile ;;
	certbot) build certbot "$CERTBOT_IMAGE" "$RECIPES"/certbot/Dockerfile ;;
	pebble) build pebble "$PEBBLE_IMAGE" "$RECIPES"/pebble/Dockerfile "$(tool_path pebble)" ;;
	platform) build_platform ;;
	monitoring) build monitoring "$MONITORING_IMAGE" "$RECIPES"/monitoring/Dockerfile ;;
	host) build_host ;;
	escrowctl) build_escrowctl ;;
	*) die "no image $name: base, postgres, postgres13, postgres17, redis, s3, nginx, certbot, pebble, platform, monitoring, host or escrowctl" ;;
	esac
done
