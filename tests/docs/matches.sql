-- Whether the jsonb :got is what :want states: "…" is any value, "1-…" any text that begins with 1-, a
-- field "…" any further fields.
CREATE FUNCTION pg_temp.matches(got jsonb, want jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF want = '"…"' THEN
        RETURN coalesce(got <> 'null', false);
    ELSIF want #>> '{}' ~ '^.+…$' AND jsonb_typeof(got) = 'string' THEN
        RETURN got #>> '{}' ^@ rtrim(want #>> '{}', '…');
    ELSIF jsonb_typeof(want) = 'object' AND jsonb_typeof(got) = 'object' THEN
        RETURN (want ? '…' OR NOT EXISTS (SELECT FROM jsonb_object_keys(got) AS key WHERE NOT want ? key))
           AND (SELECT coalesce(bool_and(coalesce(pg_temp.matches(got -> key, value), false)), true)
                FROM jsonb_each(want) WHERE key <> '…');
    ELSIF jsonb_typeof(want) = 'array' AND jsonb_typeof(got) = 'array' THEN
        RETURN jsonb_array_length(got) = jsonb_array_length(want)
           AND (SELECT coalesce(bool_and(pg_temp.matches(got -> (n - 1)::int, value)), true)
                FROM jsonb_array_elements(want) WITH ORDINALITY AS e (value, n));
    END IF;
    RETURN got = want;
END $$;
SELECT pg_temp.matches(:'got', :'want');
