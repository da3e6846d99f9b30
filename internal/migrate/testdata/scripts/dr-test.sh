#!/usr/bin/env bash
# Monthly recovery test: restore the newest backup into a throwaway container.
set -euo pipefail
cd "$(dirname "$0")/.."
export $(grep -v '^#' .env | xargs)

BACKUP_DIR=${BACKUP_DIR:-/var/backups/stellarescrow}
BACKUP=${1:-$(ls "$BACKUP_DIR"/*.sql.gz | sort | tail -1)}
CONTAINER=dr-test-$$
trap 'docker rm -f "$CONTAINER" >/dev/null 2>&1' EXIT
docker run -d --name "$CONTAINER" -e POSTGRES_PASSWORD=test postgres:15-alpine >/dev/null
until docker exec "$CONTAINER" pg_isready -q; do sleep 1; done
gunzip -c "$BACKUP" | docker exec -i "$CONTAINER" psql -U postgres >/dev/null
TRADES=$(docker exec "$CONTAINER" psql -U postgres -At -c 'SELECT count(*) FROM trades')
echo "PASS: $TRADES trades"
