-- Who may do what: a role with nothing, one with grant_app, one with grant_operator; hostile search paths.
\pset tuples_only on
\pset format unaligned
\pset null (null)
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_nobody, regress_app, regress_operator, "Regress ""App""";
RESET client_min_messages;
CREATE ROLE regress_nobody;
CREATE ROLE regress_app;
CREATE ROLE regress_operator;
CREATE ROLE "Regress ""App""";
CALL t.reset();
SELECT flashsale.create_item(50, unit_price => 250, currency => 'EUR', item_id => 1);
SELECT count(*) FROM unnest('{alice,bob,carol}'::text[]) AS who, flashsale.purchase_item(1, who) AS answer;
SELECT t.id('alice') AS alice, t.id('bob') AS bob, t.id('carol') AS carol \gset

-- What a role may call, and do to tables.
CREATE FUNCTION pg_temp.rights(who regrole) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT 'schema ' || privilege FROM unnest('{USAGE,CREATE}'::text[]) AS privilege
    WHERE has_schema_privilege(who, 'flashsale', privilege)
    UNION ALL
    (SELECT 'call ' || oid::regprocedure FROM pg_proc
     WHERE pronamespace = 'flashsale'::regnamespace AND has_function_privilege(who, oid, 'EXECUTE')
     ORDER BY oid::regprocedure::text COLLATE "C")
    UNION ALL
    (SELECT lower(privilege) || ' ' || c.oid::regclass
     FROM pg_class c, unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS privilege
     WHERE relnamespace = 'flashsale'::regnamespace AND relkind IN ('r', 'v') AND has_table_privilege(who, c.oid, privilege)
     ORDER BY c.oid::regclass::text COLLATE "C", 1)
    UNION ALL
    (SELECT format('%s %s.%s', lower(privilege), c.oid::regclass, attname)
     FROM pg_class c JOIN pg_attribute ON attrelid = c.oid AND attnum > 0, unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) AS privilege
     WHERE relnamespace = 'flashsale'::regnamespace AND relkind IN ('r', 'v')
       AND has_column_privilege(who, c.oid, attnum, privilege) AND NOT has_table_privilege(who, c.oid, privilege)
     ORDER BY c.oid::regclass::text COLLATE "C", attname COLLATE "C")
    UNION ALL
    (SELECT lower(privilege) || ' ' || c.oid::regclass
     FROM pg_class c, unnest('{USAGE,SELECT,UPDATE}'::text[]) AS privilege
     WHERE relnamespace = 'flashsale'::regnamespace AND relkind = 'S' AND has_sequence_privilege(who, c.oid, privilege)
     ORDER BY c.oid::regclass::text COLLATE "C", 1)
$$;
SELECT pg_temp.rights('regress_nobody');
-- A monitoring role reads the counters, without any grant of ours.
SELECT pg_temp.rights('pg_monitor');
GRANT pg_monitor TO regress_nobody;
SET ROLE regress_nobody;
SELECT count(*) > 0 FROM flashsale.stats;
SELECT t.error(statement) FROM (VALUES
    ('SELECT flashsale.stats_reset()'),
    ('SELECT flashsale.refund_payment(''pay'')'),
    ('SELECT flashsale.audit()'),
    ('SELECT flashsale.audit(1)'),
    ('SELECT FROM flashsale.broken_invariants'),
    ('SELECT * FROM flashsale.orders'),
    ('SELECT * FROM flashsale.item_status')) AS v (statement);
RESET ROLE;
REVOKE pg_monitor FROM regress_nobody;
SELECT flashsale.grant_app('regress_app');
SELECT pg_temp.rights('regress_app');
SELECT flashsale.grant_operator('regress_operator');
SELECT pg_temp.rights('regress_operator');
SELECT pg_temp.rights('regress_nobody');
-- A repeat, and a name that must be quoted.
SELECT flashsale.grant_app(role => 'regress_app');
SELECT flashsale.grant_operator(role => 'regress_operator');
SELECT flashsale.grant_app('"Regress ""App"""');
SELECT count(*) FROM pg_temp.rights('"Regress ""App"""');
SELECT grantee::regrole, is_grantable FROM pg_proc, aclexplode(proacl)
WHERE oid = 'flashsale.get_order(bigint)'::regprocedure AND grantee <> proowner ORDER BY grantee::regrole::text COLLATE "C";

-- The role with no privileges.
SET ROLE regress_nobody;
SELECT t.error(statement) FROM (VALUES
    ('SELECT flashsale.purchase_item(1, ''eve'')'),
    ('SELECT flashsale.audit()'),
    ('SELECT flashsale.audit(1)'),
    ('SELECT FROM flashsale.broken_invariants'),
    ('SELECT count(*) FROM flashsale.items'),
    ('SELECT flashsale.grant_app(''regress_nobody'')'),
    ('SELECT flashsale.grant_operator(''regress_nobody'')')) AS v (statement);
RESET ROLE;

-- The app: all that a buyer does, and nothing else.
SET ROLE regress_app;
SELECT t.answer(flashsale.purchase_item(1, 'dave', 2, 'key'));
SELECT flashsale.purchase_item(1, 42) ->> 'success',
       flashsale.purchase_item(1, uuid '0a8f3e9c-1c1d-4b2b-9c55-6f0e6a1c7d21') ->> 'success';
SELECT flashsale.begin_payment(:alice) ->> 'status',
       flashsale.confirm_order(:alice, 'pay-alice', 250, 'EUR') ->> 'status';
SELECT flashsale.cancel_order(:bob) ->> 'status';
SELECT flashsale.get_order(:alice) ->> 'status', jsonb_array_length(flashsale.user_orders('alice') -> 'orders');
SELECT flashsale.find_payment('pay-alice') ->> 'status', flashsale.item_availability(1) ->> 'state';
SELECT statement || ' -> ' || t.error(statement) FROM (VALUES
    ('SELECT flashsale.create_item(1)'),
    ('SELECT flashsale.restock_item(1, 1)'),
    ('SELECT flashsale.pause_item(1)'),
    ('SELECT flashsale.resume_item(1)'),
    ('SELECT flashsale.reconcile_stale_reservations()'),
    ('SELECT flashsale.refund_order(1)'),
    ('SELECT flashsale.refund_payment(''pay-alice'')'),
    ('SELECT flashsale.audit()'),
    ('SELECT flashsale.audit(1)'),
    ('SELECT FROM flashsale.broken_invariants'),
    ('SELECT flashsale.grant_app(''regress_app'')'),
    ('SELECT flashsale.grant_operator(''regress_app'')'),
    ('SELECT count(*) FROM flashsale.items'),
    ('SELECT count(*) FROM flashsale.orders'),
    ('SELECT count(*) FROM flashsale.payments'),
    ('SELECT count(*) FROM flashsale.refunds_due'),
    ('INSERT INTO flashsale.items (inventory, stock) VALUES (1, 1)'),
    ('UPDATE flashsale.items SET inventory = inventory + 1'),
    ('DELETE FROM flashsale.orders'),
    ('UPDATE flashsale.orders SET status = ''confirmed'''),
    ('INSERT INTO flashsale.payments (order_id, status) VALUES (1, ''paid'')'),
    ('TRUNCATE flashsale.stock_movements'),
    ('SELECT nextval(''flashsale.orders_order_id_seq'')'),
    ('SELECT setval(''flashsale.orders_order_id_seq'', 1)'),
    ('CREATE TABLE flashsale.mine ()'),
    ('DROP EXTENSION flashsale')) AS v (statement);
RESET ROLE;

-- The operator: reads everything, settles orders, changes prices and windows, and moves stock only through functions.
SET ROLE regress_operator;
SELECT flashsale.create_item(5, item_id => 2), flashsale.create_item(5);
SELECT flashsale.restock_item(2, 1) ->> 'success', flashsale.pause_item(2) ->> 'paused',
       flashsale.resume_item(2) ->> 'paused';
SELECT flashsale.confirm_order(:carol, 'pay-carol') ->> 'status', flashsale.refund_order(:carol) ->> 'status',
       flashsale.refund_payment('pay-carol') ->> 'status';
SELECT flashsale.cancel_order(t.id('dave')) ->> 'status', flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT flashsale.get_order(:alice) ->> 'status', flashsale.user_orders('alice') ->> 'success',
       flashsale.find_payment('pay-alice') ->> 'status', flashsale.item_availability(1) ->> 'state';
SELECT count(*) FROM flashsale.items;
SELECT count(*) FROM flashsale.orders;
SELECT count(*) FROM flashsale.payments;
SELECT count(*) FROM flashsale.stock_movements;
SELECT count(*) FROM flashsale.item_status;
SELECT count(*) FROM flashsale.payment_checks;
SELECT count(*) FROM flashsale.refunds_due;
SELECT * FROM flashsale.audit();
UPDATE flashsale.items SET name = 'Console', unit_price = 300, currency = 'USD', max_per_user = 2, starts_at = now(), ends_at = NULL
WHERE item_id = 2;
SELECT name, unit_price, version FROM flashsale.items WHERE item_id = 2;
SELECT statement || ' -> ' || t.error(statement) FROM (VALUES
    ('SELECT flashsale.purchase_item(1, ''eve'')'),
    ('SELECT flashsale.grant_app(''regress_operator'')'),
    ('SELECT flashsale.grant_operator(''regress_nobody'')'),
    ('INSERT INTO flashsale.items (inventory, stock) VALUES (1, 1)'),
    ('UPDATE flashsale.items SET inventory = inventory + 1'),
    ('UPDATE flashsale.items SET stock = stock + 1'),
    ('UPDATE flashsale.items SET version = 0'),
    ('UPDATE flashsale.items SET paused = true'),
    ('UPDATE flashsale.items SET reservation_ttl = ''1 day'''),
    ('UPDATE flashsale.items SET item_id = 9'),
    ('UPDATE flashsale.items SET created_at = now()'),
    ('DELETE FROM flashsale.items'),
    ('UPDATE flashsale.orders SET status = ''confirmed'''),
    ('DELETE FROM flashsale.payments'),
    ('UPDATE flashsale.stock_movements SET delta = 1'),
    ('SELECT nextval(''flashsale.items_item_id_seq'')'),
    ('CREATE TABLE flashsale.mine ()'),
    ('ALTER TABLE flashsale.items DISABLE TRIGGER raise_version')) AS v (statement);
RESET ROLE;
-- The recorded role is the one that logged in, not the owner of the functions.
SELECT DISTINCT closed_by = session_user FROM flashsale.orders WHERE closed_by IS NOT NULL;
SET SESSION AUTHORIZATION regress_operator;
SELECT flashsale.restock_item(2, 1, 'by hand') ->> 'success', flashsale.refund_order(:alice) ->> 'status';
RESET SESSION AUTHORIZATION;
SELECT moved_by FROM flashsale.stock_movements WHERE reason = 'by hand';
SELECT closed_by FROM flashsale.orders WHERE order_id = :alice;

-- A caller's search path with traps, temporary tables included, changes nothing.
CREATE SCHEMA regress_trap;
GRANT ALL ON SCHEMA regress_trap TO regress_app;
SET SESSION AUTHORIZATION regress_app;
CREATE TABLE regress_trap.items (item_id bigint, inventory bigint, version bigint);
CREATE TABLE regress_trap.orders (order_id bigint);
CREATE FUNCTION regress_trap.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION regress_trap.trap(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION regress_trap.trap(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION regress_trap.nextval(regclass) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION regress_trap.sum(bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE OPERATOR regress_trap.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = regress_trap.trap);
CREATE OPERATOR regress_trap.>= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = regress_trap.trap);
CREATE OPERATOR regress_trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = regress_trap.trap);
CREATE TEMPORARY TABLE items (item_id bigint);
CREATE TEMPORARY TABLE orders (order_id bigint);
CREATE TEMPORARY TABLE payments (order_id bigint);
SET search_path = pg_temp, regress_trap, pg_catalog;
SELECT t.answer(flashsale.purchase_item(1, 'frank', 2, 'key'));
SELECT t.answer(flashsale.purchase_item(1, 'frank', 2, 'key'));
SELECT t.answer(flashsale.purchase_item(99, 'frank'));
SELECT t.answer(flashsale.begin_payment(t.id('frank')));
SELECT t.answer(flashsale.confirm_order(t.id('frank'), 'pay-frank'));
SELECT t.answer(flashsale.cancel_order(t.id('frank')));
SELECT flashsale.item_availability(1) ->> 'state', flashsale.find_payment('pay-frank') ->> 'status';
RESET SESSION AUTHORIZATION;
SELECT flashsale.restock_item(1, 5) ->> 'success', flashsale.refund_order(t.id('frank')) ->> 'status',
       flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT (SELECT count(*) FROM flashsale.audit()), (SELECT count(*) FROM flashsale.audit(1));
SELECT flashsale.grant_app('regress_app');
RESET search_path;
DROP TABLE pg_temp.items, pg_temp.orders, pg_temp.payments;
SET client_min_messages = warning;
DROP SCHEMA regress_trap CASCADE;
RESET client_min_messages;
SELECT t.stock(1);
SELECT * FROM flashsale.audit();

DROP OWNED BY regress_app, regress_operator, "Regress ""App""";
DROP ROLE regress_nobody, regress_app, regress_operator, "Regress ""App""";
