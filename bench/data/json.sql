-- One table that is the database, of JSON that compresses well.
CREATE TABLE events (id bigserial PRIMARY KEY, ledger bigint, type text, payload jsonb, at timestamptz);
INSERT INTO events (ledger, type, payload, at) SELECT g / 5, (ARRAY['trade_created', 'trade_funded', 'trade_completed', 'dispute'])[1 + g % 4],
  jsonb_build_object('event', jsonb_build_object('type', 'contract', 'contract', 'escrow', 'topics', jsonb_build_array('trade', 'funded', g % 977)),
    'from', 'G' || upper(md5((g % 5000)::text)), 'amount', g * 1.5, 'memo', 'escrow event of the platform, number ' || g),
  timestamptz '2024-01-01' + g * interval '10 s' FROM generate_series(1::bigint, 3900 * :mb) g;
CREATE INDEX ON events (ledger);
CREATE INDEX ON events (at);
CREATE TABLE trades (id bigint PRIMARY KEY, note text);
INSERT INTO trades SELECT g, md5(g::text) FROM generate_series(1, 20 * :mb) g;
CREATE TABLE users (id bigint PRIMARY KEY, name text);
INSERT INTO users SELECT g, md5(g::text) FROM generate_series(1, 10 * :mb) g;
