-- Three tables of the platform, one of them two thirds of it: 1.1 GB of SQL for mb = 1000.
CREATE TABLE users (id bigint PRIMARY KEY, name text, email text, created timestamptz, prefs jsonb);
INSERT INTO users SELECT g, 'user ' || md5(g::text), md5((g * 3)::text) || '@example.org', timestamptz '2024-01-01' + g * interval '1 min',
  jsonb_build_object('lang', 'en', 'n', g) FROM generate_series(1, 300 * :mb) g;
CREATE TABLE trades (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), seller bigint REFERENCES users, buyer bigint REFERENCES users,
  amount numeric(20,7), status varchar(12) CHECK (status IN ('open', 'done', 'disputed')), created timestamptz, meta jsonb);
INSERT INTO trades SELECT gen_random_uuid(), 1 + g % (300 * :mb), 1 + (g * 7) % (300 * :mb), (g % 100000) / 7.0, (ARRAY['open', 'done', 'disputed'])[1 + g % 3],
  timestamptz '2024-01-01' + g * interval '1 min', jsonb_build_object('memo', md5(g::text), 'fee', g % 100, 'asset', 'USDC')
  FROM generate_series(1::bigint, 1500 * :mb) g;
CREATE INDEX ON trades (created);
CREATE INDEX ON trades (seller);
CREATE TABLE events (id bigserial PRIMARY KEY, ledger bigint, type text, trade uuid, payload jsonb, at timestamptz);
INSERT INTO events (ledger, type, trade, payload, at) SELECT g / 5, (ARRAY['trade_created', 'trade_funded', 'trade_completed', 'dispute'])[1 + g % 4], gen_random_uuid(),
  jsonb_build_object('hash', md5(g::text) || md5((g * 5)::text), 'from', 'G' || upper(md5((g % 5000)::text)), 'amount', g * 1.5, 'seq', g,
    'memo', 'escrow event of the platform, number ' || g), timestamptz '2024-01-01' + g * interval '10 s' FROM generate_series(1::bigint, 2800 * :mb) g;
CREATE INDEX ON events (ledger);
CREATE INDEX ON events (at);
