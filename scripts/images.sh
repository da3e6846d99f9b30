#!/usr/bin/env bash
# Builds the container images of tests and sandbox from Debian packages, since
# no registry is needed for that and none may be reachable:
#
#   images.sh [postgres] [redis] [s3] [nginx] [certbot] [pebble] [platform]
#             [monitoring]            (all by default)
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

base_key=$(hash_of "$SUITE" "$BASE_PACKAGES" 1)
base_image=escrowctl-sandbox/base:$base_key

# build_base imports a minimal Debian with the servers of the platform.
build_base() {
	docker image inspect "$base_image" >/dev/null 2>&1 && return
	say "building $base_image from Debian $SUITE packages (a minute)"
	local id
	# Tagged only once the whole pipe has succeeded: half an image must not
	# pass for the base.
	id=$(as_root mmdebstrap --quiet --variant=minbase --include="$BASE_PACKAGES" \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--customize-hook='rm -rf "$1"/var/lib/postgresql/15 "$1"/etc/postgresql/15' \
		--format=tar "$SUITE" - | docker import -)
	docker tag "$id" "$base_image"
}

# build name image recipe file...: a classic build of the files, on the base.
build() {
	local name=$1 image=$2 key
	shift 2
	key=$(hash_of "$base_key" "$@")
	has_recipe "$image" "$key" && return
	build_base
	say "building $image"
	context=$(mktemp -d)
	cp "$@" "$context"
	DOCKER_BUILDKIT=0 docker build --quiet --build-arg "BASE=$base_image" \
		--label "$RECIPE_LABEL=$key" --tag "$image" "$context" >/dev/null
	rm -rf "$context"
	context=
}

# build_platform builds the program of the platform's stand-ins, static, and
# its image.
build_platform() {
	program=$(mktemp -d)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -buildid=' -o "$program/serve" ./internal/testenv/platform/serve
	build platform "$PLATFORM_IMAGE" "$RECIPES"/platform/* "$program/serve"
}

context= program=
trap 'rm -rf ${context:+"$context"} ${program:+"$program"}' EXIT
need_docker
only_one
[ $# -gt 0 ] || set -- postgres redis s3 nginx certbot pebble platform monitoring
for name in "$@"; do
	case $name in
	postgres) build postgres "$POSTGRES_IMAGE" "$RECIPES"/postgres/* ;;
	redis) build redis "$REDIS_IMAGE" "$RECIPES"/redis/* ;;
	s3) build s3 "$S3_IMAGE" "$RECIPES"/s3/* "$(tool_path versitygw)" ;;
	nginx) build nginx "$NGINX_IMAGE" "$RECIPES"/nginx/* ;;
	certbot) build certbot "$CERTBOT_IMAGE" "$RECIPES"/certbot/* ;;
	pebble) build pebble "$PEBBLE_IMAGE" "$RECIPES"/pebble/* "$(tool_path pebble)" ;;
	platform) build_platform ;;
	monitoring) build monitoring "$MONITORING_IMAGE" "$RECIPES"/monitoring/* ;;
	*) die "no image $name: postgres, redis, s3, nginx, certbot, pebble, platform or monitoring" ;;
	esac
done
