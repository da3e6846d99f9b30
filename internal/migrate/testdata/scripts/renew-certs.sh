#!/bin/sh
# Twice daily: renew the certificate, reload nginx, tell how long it lasts.
set -eu
CERT_DOMAIN="${CERT_DOMAIN:-stellarescrow.app}"
CERT_ALERT_WEBHOOK="${CERT_ALERT_WEBHOOK:-}"
cd /opt/stellarescrow 2>/dev/null || true
docker compose run --rm certbot renew
docker compose exec -T nginx nginx -s reload
END=$(echo | openssl s_client -connect "$CERT_DOMAIN:443" 2>/dev/null | openssl x509 -noout -enddate | cut -d= -f2)
DAYS=$(( ($(date -d "$END" +%s) - $(date +%s)) / 86400 ))
if [ "$DAYS" -lt 30 ] && [ -n "$CERT_ALERT_WEBHOOK" ]; then
  curl -sf -X POST -d "{\"text\": \"$CERT_DOMAIN: $DAYS days left\"}" "$CERT_ALERT_WEBHOOK"
fi
