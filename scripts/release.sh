#!/usr/bin/env bash
# Builds what a release is made of, in dist/ (or $DIST):
#
#   release.sh [amd64] [arm64]      (both by default)
#
# for each a static binary, its SBOM and a Debian package, and SHA256SUMS of all.
# One commit gives the same bytes wherever and whenever it is built: VERSION,
# COMMIT and SOURCE_DATE_EPOCH come from git, or from the environment where there
# is no git (`make reproducible` shows it).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
umask 022
export LC_ALL=C TZ=UTC0

VERSION=${VERSION:-$(git describe --tags --always --dirty)}
COMMIT=${COMMIT:-$(git rev-parse HEAD)}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
# Nothing of the builder's own settings.
export CGO_ENABLED=0 GOOS=linux GOFLAGS='-trimpath -buildvcs=false' GOEXPERIMENT='' GOAMD64=v1 GOARM64=v8.0
dist=${DIST:-dist}

# settle gives everything below a directory the commit's time, so that archives
# of it are the same.
settle() { find "$1" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +; }

# common_files puts into a root what is the same on every architecture.
common_files() {
	local root=$1 doc=$1/usr/share/doc/escrowctl
	env -u GOOS go run ./internal/release files "$root"
	gzip -9n "$root"/usr/share/man/man1/*
	install -d "$root/usr/lib/systemd/system" "$doc" "$root/etc/escrowctl" "$root/etc/logrotate.d"
	install -m 0644 deploy/systemd/* "$root/usr/lib/systemd/system"
	install -m 0640 deploy/debian/escrowctl.yaml "$root/etc/escrowctl"
	install -m 0644 deploy/debian/logrotate "$root/etc/logrotate.d/escrowctl"
	install -m 0644 LICENSE "$doc/copyright"
	env -u GOOS go run ./internal/release licences >>"$doc/copyright"
	gzip -9nc CHANGELOG.md >"$doc/changelog.gz"
}

build_binary() {
	local arch=$1 out=$2 date
	date=$(date -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
	GOARCH=$arch go build -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT -X main.date=$date" -o "$out" ./cmd/escrowctl
}

# build_deb packs the staged root with one architecture's binary.
build_deb() {
	local arch=$1 stage=$2 deb
	deb=$dist/escrowctl_${DEB_VERSION}_$arch.deb
	install -D -m 0755 "$dist/escrowctl-linux-$arch" "$stage/root/usr/bin/escrowctl"
	install -m 0755 deploy/debian/{postinst,prerm,postrm} "$stage"
	settle "$stage"
	(cd "$stage" && ARCH=$arch nfpm_quiet package --config "$config" --packager deb --target "$deb")
}

# nfpm tells what it does on stdout.
nfpm_quiet() {
	local said
	said=$("$nfpm" "$@" 2>&1) || die "nfpm: $said"
}

nfpm=$(tool_path nfpm)
config=$PWD/deploy/debian/nfpm.yaml
DEB_VERSION=$(deb_version "$VERSION")
export DEB_VERSION
[ $# -gt 0 ] || set -- amd64 arm64
mkdir -p "$dist"
dist=$(cd "$dist" && pwd)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
rm -f "$dist"/escrowctl[-_]* "$dist/SHA256SUMS"

common_files "$stage/root"
for arch in "$@"; do
	build_binary "$arch" "$dist/escrowctl-linux-$arch"
	env -u GOOS go run ./internal/release sbom "$dist/escrowctl-linux-$arch" >"$dist/escrowctl-linux-$arch.cdx.json"
	build_deb "$arch" "$stage"
done
(cd "$dist" && sha256sum escrowctl* >SHA256SUMS)
say "$VERSION in $dist: $(cd "$dist" && ls | tr '\n' ' ')"
