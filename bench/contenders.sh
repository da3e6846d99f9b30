#!/usr/bin/env bash
# One way to back up, to verify or to restore. run.sh sets the scene, and
# measures what is done here and nothing else:
#
#   contenders.sh NAME
#   contenders.sh output NAME    prints the file or directory that it writes
set -euo pipefail

# put sends a file, or the files of a directory, to the bucket as the script's
# aws s3 cp does.
put() {
	local file
	find "$1" -type f -printf '%P\n' | while read -r file; do
		curl -sf -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' --aws-sigv4 aws:amz:us-east-1:s3 --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
			-T "$1${file:+/$file}" "$AWS_ENDPOINT_URL_S3/bench-bucket/${1##*/}${file:+/$file}"
	done
}

output() {
	case $1 in
	script-backup) echo "$FILES/script.sql.gz" ;;
	pigz) echo "$FILES/pigz.sql.gz" ;;
	zstd) echo "$FILES/zstd.sql.zst" ;;
	pg_dump-Fc) echo "$FILES/custom.dump" ;;
	pg_dump-Fd-j2) echo "$FILES/directory.dump" ;;
	escrowctl-backup) compgen -G "$BACKUP_DIR/*.sql.gz" || true ;;
	escrowctl-backup-*) compgen -G "$FILES/$1/*.sql.*[tz]" || true ;;
	esac
}

# settings are the variables of escrowctl-backup-WHAT.
settings() {
	case $1 in
	*-jobs[0-9]*) echo "ESCROWCTL_BACKUP_JOBS=${1##*-jobs}" ;;
	*-gzip[1-9]) echo "ESCROWCTL_BACKUP_LEVEL=${1##*-gzip}" ;;
	*-zstd[1-9]) echo "ESCROWCTL_BACKUP_COMPRESSION=zstd ESCROWCTL_BACKUP_LEVEL=${1##*-zstd}" ;;
	*)
		echo "no setting $1" >&2
		return 3
		;;
	esac
}

dr_test() { bin/escrowctl -q --json dr-test latest --engine docker --image "$IMAGE" "$@" >"$FILES/dr-test.json"; }

out=$(output "$1")
case $1 in
output) output "$2" ;;

# The floors: what the server takes to hand out a dump, and its rows alone.
floor) pg_dump src >/dev/null ;;
copy) psql -qXAt src -c "SELECT format('COPY %s TO STDOUT;', c.oid::regclass) FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace" | psql -qX src >/dev/null ;;

# Each with the upload.
script-backup) pg_dump src | gzip >"$out" && put "$out" ;;
pigz) pg_dump src | pigz >"$out" && put "$out" ;;
zstd) pg_dump src | zstd -q -3 -T0 -f -o "$out" && put "$out" ;;
pg_dump-Fc) pg_dump -Fc -f "$out" src && put "$out" ;;
pg_dump-Fd-j2) rm -rf "$out" && pg_dump -Fd -j2 -f "$out" src && put "$out" ;;
escrowctl-backup) bin/escrowctl -q backup ;;
escrowctl-upload) bin/escrowctl -q backup upload ;;
# With other settings, into a directory and a prefix of its own.
escrowctl-backup-*)
	set_to=$(settings "$1")
	# shellcheck disable=SC2086 # several words
	env $set_to BACKUP_DIR="$FILES/$1" S3_BUCKET="$S3_BUCKET/$1" bin/escrowctl -q backup
	;;

gzip-t) gzip -t "$(output script-backup)" ;;
escrowctl-verify) bin/escrowctl -q backup verify latest --local ;;
escrowctl-verify-s3) bin/escrowctl -q backup verify latest --s3 ;;

# Into a new database of the server that was dumped.
script-restore) gunzip -c "$(output script-backup)" | psql -qX -v ON_ERROR_STOP=1 target ;;
pg_restore-j4) pg_restore -j4 -d target "$(output pg_dump-Fd-j2)" ;;
escrowctl-restore) bin/escrowctl -q backup restore latest --local --to target ;;
escrowctl-restore-jobs*) bin/escrowctl -q backup restore latest --local --to target --jobs "${1##*-jobs}" ;;
escrowctl-restore-s3) bin/escrowctl -q backup restore latest --s3 --to target ;;

# Recovery tests, from the start of the container to its removal, and what
# pg_restore takes in a server as escrowctl's test starts it.
script-dr-test) bench/script-dr-test.sh "$IMAGE" "$(output script-backup)" "$DRPORT" ;;
escrowctl-dr-test) dr_test --from local ;;
escrowctl-dr-test-jobs*) dr_test --from local --jobs "${1##*-jobs}" ;;
escrowctl-dr-test-s3) dr_test --from s3 ;;
pg_restore-j4-kept) PGHOST=$KEPT PGPORT=5432 pg_restore -j4 -d target "$(output pg_dump-Fd-j2)" ;;
*)
	echo "no contender $1" >&2
	exit 3
	;;
esac
