#!/usr/bin/env bash
# Daily database backup: dump, compress, upload, prune, notify.
set -euo pipefail

SCRIPT_DIR="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
[ -f "$SCRIPT_DIR/../.env" ] && { set -a; source "$SCRIPT_DIR/../.env"; set +a; }

: "${DATABASE_URL:?DATABASE_URL is required}"
BACKUP_DIR="${BACKUP_DIR:-/var/backups/stellarescrow}"
RETENTION_DAYS="${RETENTION_DAYS:-30}"
S3_BUCKET="${S3_BUCKET:-}"
BACKUP_ALERT_WEBHOOK="${BACKUP_ALERT_WEBHOOK:-}"
API_BASE_URL="${API_BASE_URL:-http://localhost:3000}"

TIMESTAMP=$(date -u +%Y%m%dT%H%M%SZ)
BACKUP_FILE="$BACKUP_DIR/stellar_escrow_$TIMESTAMP.sql.gz"

notify() {
  local text="$1"
  if [ -n "$BACKUP_ALERT_WEBHOOK" ]; then
    curl -sf -X POST -H 'Content-Type: application/json' -d "{\"text\": \"$text\"}" "$BACKUP_ALERT_WEBHOOK" || true
  fi
}

mkdir -p "$BACKUP_DIR"
pg_dump "$DATABASE_URL" | gzip > "$BACKUP_FILE"

if [ -n "$S3_BUCKET" ] && command -v aws >/dev/null; then
  aws s3 cp "$BACKUP_FILE" "$S3_BUCKET/" --storage-class STANDARD_IA
fi

find "$BACKUP_DIR" -name 'stellar_escrow_*.sql.gz' -mtime +"$RETENTION_DAYS" -delete
curl -sf -X POST "$API_BASE_URL/api/metrics" -H 'Content-Type: application/json' \
  -d "{\"source\":\"backup\",\"type\":\"backup_success\",\"file\":\"$(basename "$BACKUP_FILE")\",\"ts\":$(date +%s)}" || true
notify "backup ok: $(basename "$BACKUP_FILE")"
echo "BACKUP_LOCATION=$BACKUP_FILE"
