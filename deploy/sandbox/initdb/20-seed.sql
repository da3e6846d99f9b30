-- About half a million rows. Keys come from md5 of a running number, so that
-- every run makes the same database.
\set users 5000
\set trades 40000
\set events 250000

CREATE FUNCTION pg_temp.key(kind text, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT md5(kind || n)::uuid $$;
CREATE FUNCTION pg_temp.address(prefix text, n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT prefix || substr(translate(upper(md5('a' || n) || md5('b' || n)), '0189', 'GHIJ'), 1, 55) $$;
CREATE FUNCTION pg_temp.at(n bigint, step interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
$$ SELECT timestamptz '2026-01-01 00:00+00' + n * step $$;

BEGIN;
SET LOCAL synchronous_commit = off;

INSERT INTO schema_migrations SELECT 20260101000000 + n, 'migration ' || n, pg_temp.at(n, '1 day') FROM generate_series(1, 24) n;
INSERT INTO settings VALUES ('maintenance', 'false'), ('limits', '{"trade_max": "100000"}'), ('greeting', '"Grüezi – 你好 👋"');
INSERT INTO feature_flags (name, enabled) VALUES ('milestones', true), ('disputes_v2', false);
INSERT INTO tags (name) SELECT unnest(ARRAY['art', 'books', 'code', 'design', 'food', 'music', 'rent', 'travel']);
INSERT INTO assets (id, code, issuer)
    SELECT pg_temp.key('asset', n), (ARRAY['XLM', 'USDC', 'EURC', 'AQUA'])[n], CASE WHEN n > 1 THEN pg_temp.address('G', n) END
    FROM generate_series(1, 4) n;
INSERT INTO fee_schedules (id, asset_id, bps, valid_from)
    SELECT pg_temp.key('fee', n), pg_temp.key('asset', n), 40 + n * 5, '2026-01-01' FROM generate_series(1, 4) n;

INSERT INTO users (id, email, display_name, address, status, preferences, created_at, updated_at)
    SELECT pg_temp.key('user', n), 'user' || n || '@example.org', (ARRAY['Ann', 'Bea', 'Çelik', 'Dmitrij', 'Zoë'])[1 + n % 5] || ' ' || n,
           pg_temp.address('G', 1000 + n), CASE WHEN n % 97 = 0 THEN 'suspended' ELSE 'active' END,
           jsonb_build_object('locale', (ARRAY['en', 'de', 'fr'])[1 + n % 3], 'newsletter', n % 2 = 0),
           pg_temp.at(n, '1 minute'), pg_temp.at(n, '1 minute')
    FROM generate_series(1, :users) n;
INSERT INTO wallets (id, user_id, asset_id, balance)
    SELECT pg_temp.key('wallet', n * 10 + a), pg_temp.key('user', n), pg_temp.key('asset', a), (n * a % 9973) / 7.0
    FROM generate_series(1, :users) n, generate_series(1, 3) a;
INSERT INTO sessions SELECT pg_temp.key('session', n), pg_temp.key('user', n), sha256(n::text::bytea), '192.0.2.1'::inet + n % 200, pg_temp.at(n, '1 hour')
    FROM generate_series(1, 3000) n;
INSERT INTO api_keys (id, user_id, name, key_hash, scopes)
    SELECT pg_temp.key('key', n), pg_temp.key('user', n), 'key ' || n, sha256(('k' || n)::bytea), '{read,write}' FROM generate_series(1, 400) n;
INSERT INTO arbitrators (id, user_id) SELECT pg_temp.key('arbitrator', n), pg_temp.key('user', n) FROM generate_series(1, 25) n;
INSERT INTO kyc_checks SELECT pg_temp.key('kyc', n), pg_temp.key('user', n), 'checker', '{"passed": true}', pg_temp.at(n, '2 minutes') FROM generate_series(1, :users) n;
INSERT INTO notification_settings SELECT pg_temp.key('user', n), c FROM generate_series(1, :users) n, unnest(ARRAY['email', 'push']) c;
INSERT INTO reputation SELECT pg_temp.key('user', n), (n * 37 % 500) / 100.0, n % 40, pg_temp.at(n, '1 hour') FROM generate_series(1, :users) n;
INSERT INTO webhooks SELECT pg_temp.key('hook', n), pg_temp.key('user', n), 'https://hooks.example.org/' || n, '{trade.completed}' FROM generate_series(1, 50) n;

INSERT INTO trades (id, seller_id, buyer_id, asset_id, amount, status, title, description, metadata, created_at, updated_at)
    SELECT pg_temp.key('trade', n), pg_temp.key('user', 1 + n % :users), pg_temp.key('user', 1 + (n + 1 + n / :users) % :users),
           pg_temp.key('asset', 1 + n % 4), 1 + (n * 7919::bigint % 100000) / 100.0,
           (ARRAY['created', 'funded', 'completed', 'completed', 'completed', 'completed', 'disputed', 'cancelled'])[1 + n % 8],
           (ARRAY['Logo', 'Novel', 'Guitar', 'Flat', 'Firmware', 'Mural'])[1 + n % 6] || ' no. ' || n,
           'Delivery by post' || E'\n' || 'Path C:\temp\' || n || E'\tpaid in full; ' || md5('d' || n) || md5('e' || n),
           jsonb_build_object('channel', (ARRAY['web', 'app', 'api'])[1 + n % 3], 'ref', md5('r' || n), 'priority', n % 5),
           pg_temp.at(n, '9 minutes'), pg_temp.at(n, '9 minutes')
    FROM generate_series(1, :trades) n;
INSERT INTO trade_tags SELECT pg_temp.key('trade', n), 1 + n % 8 FROM generate_series(1, :trades, 2) n;
INSERT INTO trade_milestones SELECT pg_temp.key('milestone', n * 10 + p), pg_temp.key('trade', n), p, 'part ' || p, 10 * p, NULL
    FROM generate_series(1, :trades, 8) n, generate_series(1, 3) p;
INSERT INTO escrow_accounts SELECT pg_temp.key('escrow', n), pg_temp.key('trade', n), pg_temp.address('C', n), 1 + n % 1000, NULL FROM generate_series(1, :trades) n;
INSERT INTO payments SELECT pg_temp.key('payment', n), pg_temp.key('trade', n), 'in', 1 + n % 1000, sha256(('tx' || n)::bytea), pg_temp.at(n, '9 minutes')
    FROM generate_series(1, :trades) n;
INSERT INTO reviews SELECT pg_temp.key('review', n), pg_temp.key('trade', n), pg_temp.key('user', 1 + n % :users), 1 + n % 5, NULLIF(repeat('good ', n % 6), ''), pg_temp.at(n, '10 minutes')
    FROM generate_series(3, :trades, 4) n;
INSERT INTO disputes SELECT pg_temp.key('dispute', n), pg_temp.key('trade', n), pg_temp.key('user', 1 + n % :users), pg_temp.key('arbitrator', 1 + n % 25),
           'not as described', (ARRAY['pending', 'buyer', 'seller', 'split'])[1 + n % 4]::dispute_outcome, pg_temp.at(n, '10 minutes'), NULL
    FROM generate_series(6, :trades, 40) n;
INSERT INTO dispute_messages SELECT pg_temp.key('message', n * 10 + m), pg_temp.key('dispute', n), pg_temp.key('user', 1 + n % :users), E'Reply \\. ' || m || E'\n\\.\nmore', pg_temp.at(n + m, '10 minutes')
    FROM generate_series(6, :trades, 40) n, generate_series(1, 4) m;
INSERT INTO dispute_evidence SELECT pg_temp.key('evidence', n), pg_temp.key('dispute', n), 'photo-' || n || '.jpg', decode(repeat(md5('p' || n), 60), 'hex')
    FROM generate_series(6, :trades, 40) n;

INSERT INTO ledgers SELECT 50000000 + n * 500, sha256(('l' || n)::bytea), pg_temp.at(n, '1 hour'), n % 300 FROM generate_series(1, 5000) n;
INSERT INTO events
    SELECT pg_temp.key('event', n), 50000000 + n * 9, pg_temp.key('trade', 1 + n % :trades),
           (ARRAY['trade_created', 'trade_funded', 'trade_completed', 'dispute_raised', 'fee_paid'])[1 + n % 5],
           jsonb_build_object('ledger', 50000000 + n * 9, 'tx', md5('t' || n) || md5('u' || n), 'topics', jsonb_build_array('escrow', n % 17), 'amount', n % 5000),
           pg_temp.at(n, '80 seconds')
    FROM generate_series(1, :events) n;
INSERT INTO indexer_cursors VALUES ('escrow', 50000000 + :events * 9, NULL, '2026-09-01');
INSERT INTO notifications SELECT pg_temp.key('note', n), pg_temp.key('user', 1 + n % :users), 'trade_update', jsonb_build_object('trade', pg_temp.key('trade', 1 + n % :trades)),
           CASE WHEN n % 3 = 0 THEN pg_temp.at(n, '5 minutes') END, pg_temp.at(n, '4 minutes')
    FROM generate_series(1, 60000) n;
INSERT INTO webhook_deliveries (webhook_id, status, attempts, body, created_at)
    SELECT pg_temp.key('hook', 1 + n % 50), 200, 1, '{"event": "trade.completed"}', pg_temp.at(n, '1 hour') FROM generate_series(1, 5000) n;
INSERT INTO price_quotes SELECT pg_temp.key('asset', a), pg_temp.at(n, '1 hour'), 0.1 * a + (n % 100) / 1000.0 FROM generate_series(1, 4) a, generate_series(1, 5000) n;
INSERT INTO audit_log (actor_id, action, entity, entity_id, change, created_at)
    SELECT pg_temp.key('user', 1 + n % :users), 'create', 'trade', pg_temp.key('trade', n), '{"via": "api"}', pg_temp.at(n, '9 minutes') FROM generate_series(1, :trades) n;

COMMIT;
REFRESH MATERIALIZED VIEW daily_volume;
ANALYZE;
