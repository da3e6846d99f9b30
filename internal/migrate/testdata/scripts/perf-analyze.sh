#!/usr/bin/env bash
# Weekly: slow queries, index usage, API latency, containers, Redis.
set -euo pipefail
source "$(dirname "$0")/../.env"
REDIS_URL="${REDIS_URL:-redis://localhost:6379}"
API_BASE_URL="${API_BASE_URL:-http://localhost:3000}"
psql "$DATABASE_URL" -c 'SELECT query, mean_exec_time FROM pg_stat_statements ORDER BY 2 DESC LIMIT 10'
curl -sf "$API_BASE_URL/health/metrics" | jq .
docker stats --no-stream
redis-cli -u "$REDIS_URL" info stats | grep keyspace
