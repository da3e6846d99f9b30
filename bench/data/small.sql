-- Two thousand tables, with half a kilobyte for each megabyte in all.
SELECT format('CREATE TABLE %1$I (id bigint PRIMARY KEY, ref uuid, status text, created timestamptz, meta jsonb);
  INSERT INTO %1$I SELECT g, gen_random_uuid(), (ARRAY[''open'', ''done'', ''disputed''])[1 + g %% 3],
    timestamptz ''2024-01-01'' + g * interval ''1 min'', jsonb_build_object(''memo'', md5(g::text), ''fee'', g %% 100, ''asset'', ''USDC'')
    FROM generate_series(1::bigint, 3 * %2$s) g', CASE n WHEN 1 THEN 'trades' WHEN 2 THEN 'events' ELSE 'table_' || n END, :mb)
FROM generate_series(1, 2000) n \gexec
