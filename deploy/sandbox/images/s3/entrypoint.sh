#!/bin/bash
# Starts the S3 server with the buckets that S3_BUCKETS names.
set -euo pipefail
for bucket in ${S3_BUCKETS:-}; do
	mkdir -p "/data/$bucket"
done
exec versitygw --port :7070 --region "${S3_REGION:-us-east-1}" --health /health --quiet posix /data
