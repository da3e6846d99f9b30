-- The platform's database in its usual shape: UUID keys, JSONB, functions,
-- triggers, full-text search, views, a materialized view.
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;

CREATE TYPE dispute_outcome AS ENUM ('pending', 'buyer', 'seller', 'split');
CREATE DOMAIN stellar_address AS varchar(56) CHECK (VALUE ~ '^[GC][A-Z2-7]{55}$');

CREATE FUNCTION set_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE TABLE schema_migrations (
    version     bigint PRIMARY KEY,
    description text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE users (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email        text NOT NULL UNIQUE,
    display_name text NOT NULL,
    address      stellar_address NOT NULL UNIQUE,
    status       varchar(20) NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'closed')),
    preferences  jsonb NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE sessions (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    token_hash bytea NOT NULL,
    ip         inet,
    expires_at timestamptz NOT NULL
);

CREATE TABLE api_keys (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id      uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    name         text NOT NULL,
    key_hash     bytea NOT NULL,
    scopes       text[] NOT NULL DEFAULT '{}',
    last_used_at timestamptz,
    revoked_at   timestamptz
);

CREATE TABLE assets (
    id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    code     varchar(12) NOT NULL,
    issuer   stellar_address,
    decimals smallint NOT NULL DEFAULT 7,
    UNIQUE NULLS NOT DISTINCT (code, issuer)
);

CREATE TABLE wallets (
    id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id  uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    asset_id uuid NOT NULL REFERENCES assets,
    balance  numeric(30, 7) NOT NULL DEFAULT 0 CHECK (balance >= 0),
    UNIQUE (user_id, asset_id)
);

CREATE TABLE arbitrators (
    id        uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id   uuid NOT NULL UNIQUE REFERENCES users,
    languages text[] NOT NULL DEFAULT '{en}',
    fee_bps   integer NOT NULL DEFAULT 50
);

CREATE TABLE trades (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    trade_no    bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    seller_id   uuid NOT NULL REFERENCES users,
    buyer_id    uuid NOT NULL REFERENCES users,
    asset_id    uuid NOT NULL REFERENCES assets,
    amount      numeric(30, 7) NOT NULL CHECK (amount > 0),
    fee         numeric(30, 7) GENERATED ALWAYS AS (round(amount * 0.005, 7)) STORED,
    status      varchar(20) NOT NULL CHECK (status IN ('created', 'funded', 'completed', 'disputed', 'cancelled')),
    title       text NOT NULL,
    description text NOT NULL DEFAULT '',
    metadata    jsonb NOT NULL DEFAULT '{}',
    search      tsvector GENERATED ALWAYS AS (to_tsvector('english', title || ' ' || description)) STORED,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CHECK (seller_id <> buyer_id)
);
CREATE INDEX trades_search_idx ON trades USING gin (search);
CREATE INDEX trades_metadata_idx ON trades USING gin (metadata jsonb_path_ops);
CREATE INDEX trades_seller_idx ON trades (seller_id, created_at DESC);
CREATE INDEX trades_buyer_idx ON trades (buyer_id, created_at DESC);
CREATE INDEX trades_open_idx ON trades (created_at) WHERE status IN ('created', 'funded', 'disputed');

CREATE TABLE trade_milestones (
    id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    trade_id uuid NOT NULL REFERENCES trades ON DELETE CASCADE,
    position integer NOT NULL,
    title    text NOT NULL,
    amount   numeric(30, 7) NOT NULL,
    done_at  timestamptz,
    UNIQUE (trade_id, position)
);

CREATE TABLE escrow_accounts (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    trade_id   uuid NOT NULL UNIQUE REFERENCES trades ON DELETE CASCADE,
    contract   stellar_address NOT NULL,
    locked     numeric(30, 7) NOT NULL,
    expires_at timestamptz
);

CREATE TABLE ledgers (
    sequence  bigint PRIMARY KEY,
    hash      bytea NOT NULL,
    closed_at timestamptz NOT NULL,
    tx_count  integer NOT NULL DEFAULT 0
);

CREATE TABLE events (
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    ledger     bigint NOT NULL,
    trade_id   uuid REFERENCES trades,
    event_type varchar(40) NOT NULL,
    payload    jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (id, ledger)
) PARTITION BY RANGE (ledger);
CREATE TABLE events_p0 PARTITION OF events FOR VALUES FROM (MINVALUE) TO (51000000);
CREATE TABLE events_p1 PARTITION OF events FOR VALUES FROM (51000000) TO (52000000);
CREATE TABLE events_default PARTITION OF events DEFAULT;
CREATE INDEX events_trade_idx ON events (trade_id, created_at);
CREATE INDEX events_type_idx ON events (event_type, ledger);

CREATE TABLE indexer_cursors (
    name       text PRIMARY KEY,
    ledger     bigint NOT NULL,
    paging     text,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE payments (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    trade_id   uuid NOT NULL REFERENCES trades,
    direction  varchar(10) NOT NULL CHECK (direction IN ('in', 'out', 'refund')),
    amount     numeric(30, 7) NOT NULL,
    tx_hash    bytea NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX payments_trade_idx ON payments (trade_id);

CREATE TABLE fee_schedules (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    asset_id   uuid NOT NULL REFERENCES assets,
    bps        integer NOT NULL,
    valid_from date NOT NULL,
    valid_to   date
);

CREATE TABLE disputes (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    trade_id      uuid NOT NULL UNIQUE REFERENCES trades,
    opened_by     uuid NOT NULL REFERENCES users,
    arbitrator_id uuid REFERENCES arbitrators,
    reason        text NOT NULL,
    outcome       dispute_outcome NOT NULL DEFAULT 'pending',
    opened_at     timestamptz NOT NULL,
    resolved_at   timestamptz
);

CREATE TABLE dispute_messages (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    dispute_id uuid NOT NULL REFERENCES disputes ON DELETE CASCADE,
    author_id  uuid NOT NULL REFERENCES users,
    body       text NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE dispute_evidence (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    dispute_id uuid NOT NULL REFERENCES disputes ON DELETE CASCADE,
    file_name  text NOT NULL,
    content    bytea NOT NULL
);

CREATE TABLE reviews (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    trade_id   uuid NOT NULL REFERENCES trades,
    author_id  uuid NOT NULL REFERENCES users,
    stars      smallint NOT NULL CHECK (stars BETWEEN 1 AND 5),
    body       text,
    created_at timestamptz NOT NULL,
    UNIQUE (trade_id, author_id)
);

CREATE TABLE reputation (
    user_id    uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    score      double precision NOT NULL,
    trades     integer NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE notifications (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    kind       varchar(40) NOT NULL,
    body       jsonb NOT NULL,
    read_at    timestamptz,
    created_at timestamptz NOT NULL
);
CREATE INDEX notifications_unread_idx ON notifications (user_id) WHERE read_at IS NULL;

CREATE TABLE notification_settings (
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    channel varchar(20) NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    PRIMARY KEY (user_id, channel)
);

CREATE TABLE webhooks (
    id      uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    url     text NOT NULL,
    events  text[] NOT NULL
);

CREATE TABLE webhook_deliveries (
    id         bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    webhook_id uuid NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    status     integer,
    attempts   integer NOT NULL DEFAULT 0,
    body       jsonb NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE kyc_checks (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id    uuid NOT NULL REFERENCES users,
    provider   text NOT NULL,
    result     jsonb NOT NULL,
    checked_at timestamptz NOT NULL
);

CREATE TABLE price_quotes (
    asset_id uuid NOT NULL REFERENCES assets,
    at       timestamptz NOT NULL,
    usd      numeric(20, 8) NOT NULL,
    PRIMARY KEY (asset_id, at)
);

CREATE TABLE tags (
    id   serial PRIMARY KEY,
    name text NOT NULL UNIQUE
);

CREATE TABLE trade_tags (
    trade_id uuid NOT NULL REFERENCES trades ON DELETE CASCADE,
    tag_id   integer NOT NULL REFERENCES tags,
    PRIMARY KEY (trade_id, tag_id)
);

CREATE TABLE audit_log (
    id         bigserial PRIMARY KEY,
    actor_id   uuid,
    action     text NOT NULL,
    entity     text NOT NULL,
    entity_id  uuid,
    change     jsonb,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_log_entity_idx ON audit_log (entity, entity_id);

CREATE TABLE feature_flags (
    name    text PRIMARY KEY,
    enabled boolean NOT NULL DEFAULT false,
    rules   jsonb NOT NULL DEFAULT '[]'
);

CREATE TABLE settings (
    name  text PRIMARY KEY,
    value jsonb NOT NULL
);

CREATE FUNCTION log_trade_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_log (actor_id, action, entity, entity_id, change)
    VALUES (NEW.seller_id, 'status', 'trade', NEW.id, jsonb_build_object('from', OLD.status, 'to', NEW.status));
    RETURN NULL;
END
$$;

CREATE FUNCTION search_trades(query text, most integer DEFAULT 20)
RETURNS TABLE (id uuid, title text, rank real) LANGUAGE sql STABLE AS $$
    SELECT t.id, t.title, ts_rank(t.search, websearch_to_tsquery('english', query))
    FROM trades t
    WHERE t.search @@ websearch_to_tsquery('english', query)
    ORDER BY 3 DESC
    LIMIT most
$$;

CREATE TRIGGER users_updated BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER trades_updated BEFORE UPDATE ON trades FOR EACH ROW EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER trades_status AFTER UPDATE OF status ON trades
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION log_trade_status();

CREATE VIEW open_trades AS
    SELECT t.id, t.trade_no, t.title, t.amount, a.code AS asset, t.status, t.created_at
    FROM trades t JOIN assets a ON a.id = t.asset_id
    WHERE t.status IN ('created', 'funded', 'disputed');

CREATE VIEW user_summary AS
    SELECT u.id, u.display_name, count(t.id) AS trades, coalesce(sum(t.amount), 0) AS volume
    FROM users u LEFT JOIN trades t ON t.seller_id = u.id
    GROUP BY u.id;

CREATE MATERIALIZED VIEW daily_volume AS
    SELECT date_trunc('day', t.created_at AT TIME ZONE 'UTC')::date AS day, a.code AS asset,
           count(*) AS trades, sum(t.amount) AS volume
    FROM trades t JOIN assets a ON a.id = t.asset_id
    GROUP BY 1, 2
    WITH NO DATA;
CREATE UNIQUE INDEX daily_volume_key ON daily_volume (day, asset);
