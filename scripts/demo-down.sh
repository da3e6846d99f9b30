#!/usr/bin/env bash
# Removes all that `make demo` made: containers, volumes, network, images,
# secrets, backups and state. The caches of tools and Go stay, and with
# KEEP_IMAGES=1 the images, which tests use too.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/sandbox.sh

need_docker
# By label and not through Compose: that works without .env too, and for
# containers of one-off runs.
remove() {
	local what=$1 ids force=-f
	shift
	case $what in
	container) force='-f -v' ;; # with the volumes that have no name
	network) force= ;;
	esac
	ids=$(docker "$what" ls -q --filter "label=com.docker.compose.project=$SANDBOX_PROJECT" "$@")
	# shellcheck disable=SC2086 # lists
	[ -z "$ids" ] || docker "$what" rm $force $ids >/dev/null
}
remove container -a
remove volume
remove network

remove_images() {
	local image images bases
	images=$(docker image ls -q --filter label=escrowctl.recipe)
	bases=$(docker image ls --format '{{.Repository}}:{{.Tag}}' escrowctl-sandbox/base)
	for image in $images $bases; do
		if docker image inspect "$image" >/dev/null 2>&1; then
			docker image rm "$image" >/dev/null || say "$image stays: something still uses it"
		fi
	done
}
[ "${KEEP_IMAGES:-}" = 1 ] || remove_images
rm -rf "$SANDBOX_RUN" "$SANDBOX_ENV" "$SANDBOX_ENV.new"
say "the sandbox is gone"
