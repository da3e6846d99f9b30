-- Thirty tables of one size.
SELECT format('CREATE TABLE %1$I (id bigint PRIMARY KEY, ref uuid, amount numeric(20,7), status text, created timestamptz, meta jsonb);
  INSERT INTO %1$I SELECT g, gen_random_uuid(), (g %% 100000) / 7.0, (ARRAY[''open'', ''done'', ''disputed''])[1 + g %% 3],
    timestamptz ''2024-01-01'' + g * interval ''1 min'', jsonb_build_object(''memo'', md5(g::text), ''fee'', g %% 100, ''asset'', ''USDC'')
    FROM generate_series(1::bigint, 195 * %2$s) g;
  CREATE INDEX ON %1$I (created)', CASE n WHEN 1 THEN 'trades' WHEN 2 THEN 'events' ELSE 'table_' || n END, :mb)
FROM generate_series(1, 30) n \gexec
