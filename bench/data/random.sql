-- Bytes that do not compress, but for their digits: COPY writes them as hex.
CREATE TABLE events (id bigint PRIMARY KEY, body bytea);
ALTER TABLE events ALTER body SET STORAGE EXTERNAL;
INSERT INTO events SELECT g, (SELECT string_agg(sha512((g * 16 + i)::text::bytea), '') FROM generate_series(1, 16) i) FROM generate_series(1::bigint, 490 * :mb) g;
CREATE TABLE trades (id bigint PRIMARY KEY, note text);
INSERT INTO trades SELECT g, md5(g::text) FROM generate_series(1, 20 * :mb) g;
CREATE TABLE users (id bigint PRIMARY KEY, name text);
INSERT INTO users SELECT g, md5(g::text) FROM generate_series(1, 10 * :mb) g;
