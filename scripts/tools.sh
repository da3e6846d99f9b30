#!/usr/bin/env bash
# Builds the tools of internal/testenv/tools.txt (all of them, or those named) into the
# tools cache, each keyed by its version. What is there already is not built.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

install_tool() {
	local name=$1 version=$2 package=$3 path start
	path=$(tool_path "$name")
	[ -x "$path" ] && return
	mkdir -p "${path%/*}"
	say "building $name $version (once, a minute or two)"
	start=$SECONDS
	# Into a directory of its own, then renamed: two at once do no harm, and a
	# build that is cut short leaves no half of a program.
	work=$(mktemp -d "${path%/*}/.build-XXXXXX")
	GOBIN=$work GOFLAGS='' CGO_ENABLED=0 go install -trimpath -ldflags=-s "$package@$version"
	mv "$work/$name" "$path"
	rmdir "$work"
	say "built $path in $((SECONDS - start)) s"
}

work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT
command -v go >/dev/null || die "no go command: see go.dev/doc/install; go.mod says which version"
only_one
while read -r name package version; do
	case $name in '' | '#'*) continue ;; esac
	if [ $# -eq 0 ] || [[ " $* " == *" $name "* ]]; then
		install_tool "$name" "$version" "$package"
	fi
done <internal/testenv/tools.txt
