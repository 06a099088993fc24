-- While there are orders, no statement drops the tables or changes them so that a dump cannot be restored.
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;
CREATE PROCEDURE t.try(VARIADIC statements text[]) LANGUAGE plpgsql AS $$
DECLARE statement text;
BEGIN
    FOREACH statement IN ARRAY statements LOOP
        BEGIN
            EXECUTE statement;
            RAISE EXCEPTION 'it works' USING ERRCODE = 'T0000'; -- and is undone
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING E'%:\n  % %', statement, coalesce(nullif(sqlstate, 'T0000'), '     '), sqlerrm;
        END;
    END LOOP;
END $$;
CREATE ROLE t_other;
CREATE ROLE t_owner SUPERUSER;
SET flashsale.protect_data = off;
DROP EXTENSION flashsale CASCADE;
RESET flashsale.protect_data;
SET ROLE t_owner;
CREATE EXTENSION flashsale;
RESET ROLE;
ALTER ROLE t_owner NOSUPERUSER;
CREATE TABLE t.parent (item_id bigint NOT NULL);

-- Without orders everything goes.
SELECT flashsale.create_item(10, item_id => 1);
CALL t.try(
    'ALTER EXTENSION flashsale DROP TABLE flashsale.orders', 'ALTER EXTENSION flashsale ADD TABLE t.parent',
    'DROP EXTENSION flashsale', 'DROP EXTENSION flashsale CASCADE', 'DROP EXTENSION plpgsql CASCADE', 'DROP OWNED BY t_owner CASCADE',
    'ALTER TABLE flashsale.orders ADD COLUMN color text', 'ALTER TABLE flashsale.orders DROP COLUMN close_reason',
    'ALTER TABLE flashsale.orders RENAME COLUMN user_id TO buyer', 'ALTER TABLE flashsale.stock_movements ALTER reason TYPE varchar(100)',
    'ALTER TABLE flashsale.orders RENAME TO sales', 'ALTER SCHEMA flashsale RENAME TO sales');

-- A payment alone, for an order that is not there, is as good as an order.
SELECT flashsale.confirm_order(99, 'stray charge') ->> 'reason';
CALL t.try('DROP EXTENSION flashsale');
TRUNCATE flashsale.payments;

SELECT flashsale.purchase_item(1, 'alice') ->> 'success';
ALTER EVENT TRIGGER flashsale_guard DISABLE; -- it is not needed where the library is preloaded
-- Whatever drops the tables.
CALL t.try(
    'DROP EXTENSION flashsale', 'DROP EXTENSION flashsale CASCADE', 'DROP EXTENSION IF EXISTS t_unknown, flashsale',
    'DROP EXTENSION plpgsql CASCADE', 'DROP OWNED BY t_owner', 'DROP OWNED BY t_owner CASCADE');
-- A library that the server has preloaded guards on when its file is gone, and there is nothing to warn of.
\c
SET client_min_messages = warning;
BEGIN;
ALTER EVENT TRIGGER flashsale_guard ENABLE ALWAYS;
UPDATE pg_proc SET probin = '$libdir/gone' WHERE probin = 'flashsale';
CALL t.try('DROP EXTENSION flashsale', 'ALTER TABLE flashsale.orders ADD COLUMN color text', 'ALTER TABLE t.parent ADD COLUMN color text');
ROLLBACK;
-- PostgreSQL's own rules.
CALL t.try('DROP SCHEMA flashsale', 'DROP SCHEMA flashsale CASCADE', 'DROP TABLE flashsale.orders CASCADE', 'DROP SEQUENCE flashsale.orders_order_id_seq CASCADE');
-- pg_dump takes along the rows of the extension's members.
CALL t.try(
    'ALTER EXTENSION flashsale DROP TABLE flashsale.orders', 'ALTER EXTENSION flashsale DROP SEQUENCE flashsale.orders_order_id_seq',
    'ALTER EXTENSION flashsale DROP FUNCTION flashsale.audit()', 'ALTER EXTENSION flashsale ADD TABLE t.parent', 'ALTER EXTENSION flashsale SET SCHEMA t');
BEGIN;
SET LOCAL flashsale.protect_data = off;
ALTER EXTENSION flashsale DROP TABLE flashsale.orders;
ALTER EXTENSION flashsale DROP SEQUENCE flashsale.orders_order_id_seq;
RESET flashsale.protect_data;
CALL t.try('DROP TABLE flashsale.orders CASCADE', 'DROP SEQUENCE flashsale.orders_order_id_seq CASCADE');
ROLLBACK;
-- Columns.
CALL t.try(
    'ALTER TABLE flashsale.orders ADD COLUMN color text', 'ALTER TABLE flashsale.items ADD COLUMN color text', 'ALTER TABLE flashsale.payments ADD COLUMN color text', 'ALTER TABLE flashsale.stock_movements ADD COLUMN color text',
    'ALTER TABLE flashsale.orders ADD COLUMN IF NOT EXISTS color text, ADD CHECK (quantity > 0)',
    'ALTER TABLE flashsale.orders DROP COLUMN close_reason', 'ALTER TABLE flashsale.items DROP COLUMN IF EXISTS name CASCADE',
    'ALTER TABLE flashsale.orders RENAME COLUMN user_id TO buyer', 'ALTER TABLE flashsale.orders RENAME user_id TO buyer',
    'ALTER TABLE flashsale.payments ALTER refund_ref TYPE varchar(100)', 'ALTER TABLE flashsale.stock_movements ALTER reason TYPE varchar(100)');
ALTER TABLE flashsale.items INHERIT t.parent;
CALL t.try('ALTER TABLE t.parent ADD COLUMN color text', 'ALTER TABLE t.parent RENAME item_id TO id');
ALTER TABLE flashsale.items NO INHERIT t.parent;
-- Names and schemas.
CALL t.try(
    'ALTER TABLE flashsale.orders RENAME TO sales', 'ALTER TABLE flashsale.orders SET SCHEMA t', 'ALTER SCHEMA flashsale RENAME TO sales',
    'ALTER SEQUENCE flashsale.orders_order_id_seq RENAME TO sales', 'ALTER SEQUENCE flashsale.orders_order_id_seq SET SCHEMA t');

-- What does no harm.
CREATE TABLE flashsale.mine (note text);
CALL t.try(
    'ALTER TABLE flashsale.orders ALTER user_id SET STATISTICS 200', 'ALTER TABLE flashsale.orders ALTER user_id SET STORAGE MAIN',
    'ALTER TABLE flashsale.orders ALTER status SET DEFAULT ''reserved''', 'ALTER TABLE flashsale.orders ALTER unit_price SET NOT NULL',
    'ALTER TABLE flashsale.orders ADD CHECK (quantity < 100)', 'ALTER TABLE flashsale.orders SET (fillfactor = 80)', 'ALTER TABLE flashsale.orders OWNER TO CURRENT_USER',
    'ALTER SCHEMA flashsale OWNER TO CURRENT_USER', 'ALTER SEQUENCE flashsale.orders_order_id_seq CACHE 10', 'ALTER TABLE flashsale.orders CLUSTER ON orders_pkey',
    'CREATE INDEX ON flashsale.orders (created_at)', 'COMMENT ON COLUMN flashsale.orders.status IS ''mine''',
    'ALTER TABLE flashsale.mine ADD COLUMN more text', 'ALTER TABLE flashsale.mine RENAME TO yours', 'DROP TABLE flashsale.mine', 'ALTER TABLE t.parent ADD COLUMN color text',
    'DROP OWNED BY t_other', 'ALTER EXTENSION plpgsql ADD TABLE t.parent');
CREATE SCHEMA t_some CREATE TABLE orders (item_id bigint);
DROP SCHEMA t_some CASCADE;

-- Only a superuser turns it off.
SET ROLE t_owner;
SET flashsale.protect_data = off;
SELECT set_config('flashsale.protect_data', 'off', false);
ALTER TABLE flashsale.orders ADD COLUMN color text;
DROP EVENT TRIGGER flashsale_guard;
RESET ROLE;

-- Another owner, who sells on and is guarded as well. The owner of an event trigger must be a superuser at that moment.
CREATE TEMPORARY TABLE before AS SELECT problem, detail FROM flashsale.health();
REASSIGN OWNED BY t_owner TO t_other;
ALTER ROLE t_other SUPERUSER;
REASSIGN OWNED BY t_owner TO t_other;
ALTER ROLE t_other NOSUPERUSER;
SELECT count(*) AS left_behind FROM pg_shdepend WHERE refobjid = 't_owner'::regrole AND deptype = 'o';
SELECT extowner::regrole FROM pg_extension WHERE extname = 'flashsale';
SELECT strategy, flashsale.purchase_item(1, 'buyer of ' || strategy, strategy => strategy) ->> 'success'
FROM unnest('{nowait,optimistic,atomic}'::text[]) AS strategy;
SELECT flashsale.purchase_item(1, 'buyer of grouped', strategy => 'grouped') ->> 'success';
SELECT flashsale.confirm_order(order_id, 'pay-' || order_id) ->> 'status' FROM flashsale.orders WHERE user_id = 'buyer of grouped';
SELECT flashsale.cancel_order(order_id) ->> 'status' FROM flashsale.orders WHERE user_id = 'buyer of nowait';
SELECT flashsale.reconcile_stale_reservations('0') ->> 'expired';
SELECT problem, detail FROM flashsale.health() EXCEPT SELECT problem, detail FROM before;
SELECT * FROM flashsale.audit();
CALL t.try('DROP EXTENSION flashsale CASCADE', 'DROP OWNED BY t_other CASCADE', 'DROP OWNED BY t_owner', 'ALTER TABLE flashsale.orders ADD COLUMN color text');
DROP TABLE before;

-- An event trigger whose function is gone holds up nobody who turns event triggers off, as is possible from 17 on,
-- or disables it. The guard does not need it where the library is preloaded.
CREATE PROCEDURE t.turn_off_event_triggers() LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('server_version_num')::int >= 170000 THEN SET LOCAL event_triggers = off;
    ELSE ALTER EVENT TRIGGER flashsale_guard DISABLE; ALTER EVENT TRIGGER flashsale_guard_end DISABLE; END IF;
END $$;
BEGIN;
ALTER EVENT TRIGGER flashsale_guard ENABLE ALWAYS;
DELETE FROM pg_proc WHERE oid = 'flashsale.load_guard'::regproc;
DO $$ BEGIN
    ALTER TABLE t.parent ADD COLUMN size text;
EXCEPTION WHEN internal_error THEN RAISE WARNING 'it has no function';
END $$;
CALL t.turn_off_event_triggers();
ALTER TABLE t.parent ADD COLUMN size text;
CALL t.try('ALTER TABLE flashsale.orders ADD COLUMN color text');
ROLLBACK;
DROP PROCEDURE t.turn_off_event_triggers();

SET flashsale.protect_data = off;
CALL t.try('DROP EXTENSION flashsale', 'ALTER TABLE flashsale.orders ADD COLUMN color text', 'ALTER TABLE flashsale.orders RENAME TO sales');
SELECT count(*) FROM flashsale.orders;

DROP EXTENSION flashsale CASCADE;
RESET flashsale.protect_data;

-- Without the extension nothing is guarded, whatever has its names.
CREATE SCHEMA flashsale;
CREATE VIEW flashsale.orders AS SELECT 1 AS order_id;
CREATE TABLE flashsale.payments AS SELECT 1 AS payment_id;
CREATE TABLE flashsale.items ();
CALL t.try('ALTER TABLE flashsale.payments ADD COLUMN color text', 'DROP TABLE flashsale.items', 'DROP VIEW flashsale.orders', 'DROP TABLE flashsale.payments', 'DROP SCHEMA flashsale CASCADE');
DROP SCHEMA flashsale CASCADE;
DROP PROCEDURE t.try(text[]);
DROP TABLE t.parent;
DROP ROLE t_owner, t_other;
CREATE EXTENSION flashsale;
