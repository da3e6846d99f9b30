# What run.sh and model.sh share. To be sourced from the root of the repository,
# behind scripts/lib.sh; $work is their directory, $S3PORT the bucket's port.

# start_bucket starts the S3 server, and sets what leads escrowctl to it.
start_bucket() {
	mkdir -p "$work/s3/bench-bucket"
	ROOT_ACCESS_KEY=bench ROOT_SECRET_KEY=bench-secret "$(tool_path versitygw)" --port "127.0.0.1:$S3PORT" posix "$work/s3" >"$work/s3.log" 2>&1 &
	s3pid=$!
	export AWS_ACCESS_KEY_ID=bench AWS_SECRET_ACCESS_KEY=bench-secret AWS_REGION=us-east-1 AWS_ENDPOINT_URL_S3=http://127.0.0.1:$S3PORT
	export ESCROWCTL_CONFIG=$work/escrowctl.yaml ESCROWCTL_STATE_DIR=$work/state BACKUP_DIR=$work/backups S3_BUCKET=s3://bench-bucket
	printf 'env: staging\ndump: {via: host}\ns3: {storage_class: ""}\nreport: {api_metrics: off}\n' >"$ESCROWCTL_CONFIG"
	chmod 600 "$ESCROWCTL_CONFIG"
}

# keep_server leaves a server of dr-test's, for pg_restore to be measured in: KEPT
# is the directory of its socket.
keep_server() {
	[ -z "${kept:-}" ] || return 0
	kept=$(bin/escrowctl -q --json dr-test latest --from local --engine docker --image "$IMAGE" --keep | python3 -c 'import json, re, sys; print(re.search(r"escrowctl-dr-test-\S+", json.load(sys.stdin)["psql"])[0])')
	KEPT=/proc/$(docker inspect -f '{{.State.Pid}}' "$kept")/root/escrowctl
	export KEPT
	PGHOST=$KEPT PGPORT=5432 PGUSER=postgres dropdb restored
}
