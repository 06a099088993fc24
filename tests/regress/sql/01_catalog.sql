-- What the extension puts into the catalog: objects, signatures, descriptions, rights, keys, dump registration.
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();

-- Every object that it owns; an unexpected one fails this test. From 17 on row types are among them.
SELECT pg_describe_object(classid, objid, objsubid) COLLATE "C" AS object FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND classid <> 'pg_type'::regclass
  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'flashsale')
ORDER BY object;

-- The API: name, arguments, result, volatility, parallel safety.
SELECT format('%s(%s) -> %s %s %s', proname, pg_get_function_arguments(oid), pg_get_function_result(oid),
              provolatile, proparallel) COLLATE "C" AS signature
FROM pg_proc WHERE pronamespace = 'flashsale'::regnamespace ORDER BY signature;

-- All functions but the two grants and set_node act as their owner, and each has its search_path pinned: purchase_item
-- by its own code. item_state and the CHECKs need neither, since they read no table; nor does the default of ids, whose
-- statements name their schema.
SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'flashsale'::regnamespace AND NOT prosecdef ORDER BY proname;
SELECT oid::regprocedure, proconfig FROM pg_proc WHERE pronamespace = 'flashsale'::regnamespace
  AND proconfig IS DISTINCT FROM '{"search_path=pg_catalog, pg_temp"}' AND prosqlbody IS NULL
ORDER BY oid::regprocedure::text COLLATE "C";
-- None is leakproof, and only CHECKs and the default of ids are strict: a NULL argument raises an error.
SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'flashsale'::regnamespace AND (proleakproof OR proisstrict)
ORDER BY proname;

-- Every object has a description.
SELECT 'schema' WHERE obj_description('flashsale'::regnamespace, 'pg_namespace') IS NULL
UNION ALL
SELECT oid::regprocedure::text FROM pg_proc
WHERE pronamespace = 'flashsale'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL
UNION ALL
SELECT oid::regclass::text FROM pg_class
WHERE relnamespace = 'flashsale'::regnamespace AND relkind IN ('r', 'v') AND obj_description(oid, 'pg_class') IS NULL
UNION ALL
SELECT format('%s.%s', attrelid::regclass, attname) FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
WHERE relnamespace = 'flashsale'::regnamespace AND relkind IN ('r', 'v') AND attnum > 0 AND NOT attisdropped
  AND col_description(attrelid, attnum) IS NULL
ORDER BY 1;

-- Nothing is granted to PUBLIC.
SELECT 'schema', privilege_type FROM pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
WHERE nspname = 'flashsale' AND grantee = 0
UNION ALL
SELECT p.oid::regprocedure::text, privilege_type FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner)))
WHERE pronamespace = 'flashsale'::regnamespace AND grantee = 0
UNION ALL
SELECT c.oid::regclass::text, privilege_type
FROM pg_class c, aclexplode(coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)))
WHERE relnamespace = 'flashsale'::regnamespace AND relkind IN ('r', 'v', 'S') AND grantee = 0
UNION ALL
SELECT attrelid::regclass::text, privilege_type FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid,
       aclexplode(attacl)
WHERE relnamespace = 'flashsale'::regnamespace AND grantee = 0;

-- The guards.
SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
WHERE relnamespace = 'flashsale'::regnamespace ORDER BY tgname;

-- Tables and sequences are dumped with their rows and positions.
SELECT unnest(extconfig)::regclass::text AS dumped FROM pg_extension WHERE extname = 'flashsale' ORDER BY dumped;
SELECT count(*) FROM pg_extension, unnest(extcondition) AS condition WHERE extname = 'flashsale' AND condition <> '';

-- The sequences stay below 2^53 and do not wrap.
SELECT sequencename, max_value, increment_by, cycle, cache_size FROM pg_sequences
WHERE schemaname = 'flashsale' ORDER BY sequencename;

-- Indexes. A purchase changes inventory and version of an item, which none of them holds.
SELECT indexdef FROM pg_indexes WHERE schemaname = 'flashsale' ORDER BY indexname;
-- There are no foreign keys. A shop's tables can have one to the id of each table.
SELECT conname FROM pg_constraint WHERE connamespace = 'flashsale'::regnamespace AND contype = 'f';
CREATE TABLE t.referring (item_id bigint REFERENCES flashsale.items, order_id bigint REFERENCES flashsale.orders,
                          payment_id bigint REFERENCES flashsale.payments);
DROP TABLE t.referring;
-- The fillfactor leaves room on the page of the hot row.
SELECT unnest(reloptions) FROM pg_class WHERE oid = 'flashsale.items'::regclass;

-- A row that violates a rule is refused, even for the owner.
SELECT flashsale.create_item(10, unit_price => 100, currency => 'EUR', item_id => 1);
SELECT flashsale.purchase_item(1, 'alice') ->> 'success';
SELECT flashsale.confirm_order(t.id('alice'), 'pay-1') ->> 'success';
SELECT change || ' -> ' || t.error('UPDATE flashsale.' || change) FROM (VALUES
    ('items SET inventory = -1'),
    ('items SET inventory = stock + 1'),
    ('items SET stock = inventory - 1'),
    ('items SET stock = 9007199254740992'),
    ('items SET stock = NULL'),
    ('items SET max_per_user = 0'),
    ('items SET starts_at = ''2030-01-02'', ends_at = ''2030-01-01'''),
    ('items SET starts_at = ''2030-01-02'', ends_at = ''2030-01-02'''),
    ('items SET reservation_ttl = ''0.999 s'''),
    ('items SET reservation_ttl = ''7 days 1 s'''),
    ('items SET unit_price = -1'),
    ('items SET unit_price = 9007199254740991 / 10 + 1'),
    ('items SET currency = ''eur'''),
    ('items SET currency = ''EURO'''),
    ('items SET name = '''''),
    ('items SET name = repeat(''x'', 256)'),
    ('orders SET quantity = 0, units_held = 0'),
    ('orders SET units_held = 0'),
    ('orders SET units_held = 2'),
    ('orders SET status = ''lost'''),
    ('payments SET status = ''lost'''),
    ('payments SET status = ''due'''),
    ('payments SET why = ''duplicate_payment'''),
    ('payments SET status = ''due'', due_since = now(), why = ''whim'''),
    ('payments SET status = ''refunded'', due_since = now(), why = ''duplicate_payment'''),
    ('payments SET refunded_at = now()'),
    ('payments SET refund_ref = ''re-1'''),
    ('payments SET payment_ref = '''''),
    ('payments SET payment_ref = repeat(''x'', 256)'),
    ('payments SET amount = -1'),
    ('stock_movements SET delta = 0')) AS v (change);
-- Ids that JavaScript cannot tell apart; two orders under one key; two payments with one ref, that pay one order,
-- or without a ref for one order.
SELECT t.error(statement) FROM (VALUES
    ('INSERT INTO flashsale.items (item_id, inventory, stock) VALUES (0, 1, 1)'),
    ('INSERT INTO flashsale.items (item_id, inventory, stock) VALUES (9007199254740992, 1, 1)'),
    ('INSERT INTO flashsale.orders (item_id, quantity, units_held, created_at, expires_at, user_id, idempotency_key)
      SELECT 1, 1, 1, now(), now(), ''bob'', ''key'' FROM generate_series(1, 2)'),
    ('INSERT INTO flashsale.payments (order_id, payment_ref, status) VALUES (-1, ''pay-1'', ''paid'')'),
    ('INSERT INTO flashsale.payments (order_id, payment_ref, status) VALUES (t.id(''alice''), ''pay-2'', ''paid'')'),
    ('INSERT INTO flashsale.payments (order_id, status, due_since, why)
      SELECT -1, ''due'', now(), ''order_not_found'' FROM generate_series(1, 2)')) AS v (statement);
SELECT * FROM flashsale.audit();
