# Functions for the sandbox, on top of lib.sh. To be sourced by bash from the
# root of the repository. SANDBOX_PROJECT and SANDBOX_DIR, a copy of
# deploy/sandbox, make it another than that of `make demo`.

readonly SANDBOX_DIR=${SANDBOX_DIR:-deploy/sandbox}
readonly SANDBOX_ENV=$SANDBOX_DIR/.env
readonly SANDBOX_RUN=$SANDBOX_DIR/.run
readonly SANDBOX_DOMAIN=stellarescrow.test

sandbox_compose() {
	compose --project-name "$SANDBOX_PROJECT" --file "$SANDBOX_DIR/docker-compose.yml" --project-directory "$SANDBOX_DIR" "$@"
}

random_secret() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port prints the first free port of 127.0.0.1 from $1 on.
free_port() {
	local port
	for port in $(seq "$1" $(($1 + 99))); do
		if port_is_free "$port"; then
			printf '%s\n' "$port"
			return
		fi
	done
	die "no free port of 127.0.0.1 from $1 to $(($1 + 99)) for the sandbox"
}

# make_certificate makes a CA and a certificate for nginx, laid out as certbot lays
# out its own: versions in archive, links to the newest in live, and what it needs
# to renew it. The CA's key is thrown away.
make_certificate() {
	local top=$SANDBOX_RUN/letsencrypt name=$SANDBOX_DOMAIN dir key part
	dir=$top/archive/$name
	key=$(mktemp)
	mkdir -p "$dir" "$top/live/$name" "$top/renewal"
	(
		umask 077
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -keyout "$key" \
			-subj '/CN=escrowctl sandbox CA' -addext basicConstraints=critical,CA:true -out "$SANDBOX_RUN/ca.pem"
		openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$dir/privkey1.pem" \
			-subj "/CN=$name" |
			openssl x509 -req -days 89 -CA "$SANDBOX_RUN/ca.pem" -CAkey "$key" -CAcreateserial -out "$dir/cert1.pem" \
				-extfile <(printf 'subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:false\n' "$name")
		cp "$SANDBOX_RUN/ca.pem" "$dir/chain1.pem"
		cat "$dir/cert1.pem" "$dir/chain1.pem" >"$dir/fullchain1.pem"
	) 2>/dev/null || die "openssl could not make the sandbox's certificate"
	rm -f "$key" "$SANDBOX_RUN/ca.srl"
	for part in cert chain fullchain privkey; do
		ln -s "../../archive/$name/${part}1.pem" "$top/live/$name/$part.pem"
	done
	cat >"$top/renewal/$name.conf" <<-CONF
		version = 2.1.0
		archive_dir = /etc/letsencrypt/archive/$name
		cert = /etc/letsencrypt/live/$name/cert.pem
		privkey = /etc/letsencrypt/live/$name/privkey.pem
		chain = /etc/letsencrypt/live/$name/chain.pem
		fullchain = /etc/letsencrypt/live/$name/fullchain.pem
		[renewalparams]
		authenticator = webroot
		webroot_path = /var/www/certbot,
		server = https://ca.invalid/directory
		key_type = ecdsa
	CONF
}

# make_env writes the sandbox's secrets and ports, once: the volumes keep the
# first secrets.
make_env() {
	if [ -f "$SANDBOX_ENV" ]; then
		grep -q '^HTTPS_PORT=' "$SANDBOX_ENV" || die "$SANDBOX_ENV was made by an older version: make demo-down, then again"
		return
	fi
	local password redis run
	local s3 indexer api horizon grafana prometheus alertmanager https
	if docker volume inspect "${SANDBOX_PROJECT}_postgres_data" >/dev/null 2>&1; then
		die "a sandbox without its $SANDBOX_ENV is left from before (or belongs to another checkout): make demo-down, then again"
	fi
	password=$(random_secret)
	redis=$(random_secret)
	# Each searches from where the one before ended, so that no two are the same.
	s3=$(free_port 19000)
	indexer=$(free_port $((s3 + 1)))
	api=$(free_port $((indexer + 1)))
	horizon=$(free_port $((api + 1)))
	grafana=$(free_port $((horizon + 1)))
	prometheus=$(free_port $((grafana + 1)))
	alertmanager=$(free_port $((prometheus + 1)))
	https=$(free_port $((alertmanager + 1)))
	mkdir -p "$SANDBOX_RUN"
	run=$(realpath "$SANDBOX_RUN")
	make_certificate
	(
		umask 077
		cat >"$SANDBOX_ENV.new" <<-ENV
			COMPOSE_PROJECT_NAME=$SANDBOX_PROJECT
			POSTGRES_PASSWORD=$password
			DATABASE_URL=postgres://indexer:$password@postgres:5432/stellar_escrow
			REDIS_PASSWORD=$redis
			REDIS_URL=redis://:$redis@redis:6379
			API_KEYS=$(random_secret)
			ADMIN_KEYS=$(random_secret)
			GRAFANA_ADMIN_PASSWORD=$(random_secret)
			INDEXER_PORT=$indexer
			API_PORT=$api
			HORIZON_PORT=$horizon
			GRAFANA_PORT=$grafana
			PROMETHEUS_PORT=$prometheus
			ALERTMANAGER_PORT=$alertmanager
			HTTPS_PORT=$https
			API_BASE_URL=http://127.0.0.1:$indexer
			HORIZON_URL=http://127.0.0.1:$horizon
			ESCROWCTL_GRAFANA_URL=http://127.0.0.1:$grafana
			ESCROWCTL_ALERTMANAGER_URL=http://127.0.0.1:$alertmanager
			ESCROWCTL_PROMETHEUS_URL=http://127.0.0.1:$prometheus
			ESCROWCTL_API_URL=http://127.0.0.1:$api
			CERT_DOMAIN=$SANDBOX_DOMAIN
			ESCROWCTL_CERTS_ADDRESS=127.0.0.1:$https
			ESCROWCTL_CERTS_CA='$run/ca.pem'
			S3_PORT=$s3
			S3_BUCKET=s3://stellarescrow-backups
			AWS_ENDPOINT_URL_S3=http://127.0.0.1:$s3
			AWS_REGION=us-east-1
			AWS_ACCESS_KEY_ID=$(random_secret | cut -c1-20)
			AWS_SECRET_ACCESS_KEY=$(random_secret)
			BACKUP_DIR='$run/backups'
			ESCROWCTL_STATE_DIR='$run/state'
			ESCROWCTL_CONFIG='${run%/*}/escrowctl.yaml'
		ENV
	)
	mv "$SANDBOX_ENV.new" "$SANDBOX_ENV"
}

# start_services starts the platform in small and waits until all of it is well.
start_services() {
	make_env
	set -a
	. "$SANDBOX_ENV"
	set +a
	sandbox_compose up -d
	wait_healthy postgres redis s3 indexer api horizon grafana nginx prometheus alertmanager
	wait_watchdog
}

container_of() {
	docker ps -q --filter "label=com.docker.compose.project=$SANDBOX_PROJECT" \
		--filter "label=com.docker.compose.service=$1" --filter label=com.docker.compose.oneoff=False
}

# wait_healthy waits until Docker calls the services healthy.
wait_healthy() {
	local service id health deadline=$((SECONDS + 480))
	for service in "$@"; do
		while :; do
			id=$(container_of "$service")
			health=$([ -z "$id" ] || docker inspect -f '{{.State.Health.Status}}' "$id")
			[ "$health" = healthy ] && break
			if [ $SECONDS -ge $deadline ]; then
				[ -z "$id" ] || docker logs --tail 30 "$id" >&2
				die "$service is ${health:-not running} after 8 minutes"
			fi
			sleep 0.3
		done
	done
}

# wait_watchdog waits until the alert that always fires has come from Prometheus
# to Alertmanager.
wait_watchdog() {
	local deadline=$((SECONDS + 480)) # Prometheus sends again after a minute
	until docker exec "$(container_of alertmanager)" busybox wget -q -O - http://127.0.0.1:9093/api/v2/alerts | grep -q '"Watchdog"'; do
		[ $SECONDS -lt $deadline ] || die "no alert comes from Prometheus to Alertmanager"
		sleep 0.3
	done
}

# sandbox_sql runs SQL in a database of the sandbox: sandbox_sql DB [PSQL ARGS].
sandbox_sql() {
	local db=$1
	shift
	docker exec -i "$(container_of postgres)" psql -X -q -A -t -v ON_ERROR_STOP=1 -U indexer -d "$db" "$@"
}
