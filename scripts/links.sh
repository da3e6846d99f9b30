#!/usr/bin/env bash
# Follows every link of the documents to another site:
#
#   links.sh [PAGE...]      (all pages by default)
#
# It needs the network, and what it finds may be gone tomorrow: so it is no test.
# `make links` runs it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

command -v curl >/dev/null || die 'no curl command: apt-get install curl'
bad=0
pages=("$@")
[ $# -gt 0 ] || mapfile -t pages < <(git ls-files '*.md')
links=$(grep -hoE '\]\(https://[^) ]+' "${pages[@]}" | sed 's/^](//; s/#.*//' | sort -u)
while IFS= read -r link; do
	if curl --silent --show-error --fail --location --max-time 60 --output /dev/null "$link"; then
		printf 'ok    %s\n' "$link"
	else
		printf 'gone  %s\n' "$link"
		bad=$((bad + 1))
	fi
done <<<"$links"
[ "$bad" -eq 0 ] || die "$bad of $(wc -l <<<"$links") links lead nowhere"
