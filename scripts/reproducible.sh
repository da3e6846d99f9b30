#!/usr/bin/env bash
# Builds the release twice, in two copies of this tree at other paths, and
# compares every byte:
#
#   reproducible.sh [amd64] [arm64]      (both by default)
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The copies have no git to ask.
VERSION=${VERSION:-$(git describe --tags --always --dirty)}
COMMIT=${COMMIT:-$(git rev-parse HEAD)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export VERSION COMMIT SOURCE_DATE_EPOCH

# Another time and another mask, as another builder would have.
(umask 077 && mkdir "$work/one" "$work/a-longer-name" && cp -r ./[!.]* "$work/a-longer-name")
cp -r ./[!.]* "$work/one"
DIST=$work/first "$work/one/scripts/release.sh" "$@"
DIST=$work/second "$work/a-longer-name/scripts/release.sh" "$@"
diff -r "$work/first" "$work/second" || die "two builds of $VERSION differ"
say "two builds of $VERSION are equal, byte for byte:"
cat "$work/first/SHA256SUMS"
