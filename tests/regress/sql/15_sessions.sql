-- One session lives through DDL, discarded plans, other settings, DROP and CREATE EXTENSION.
SET flashsale.protect_data = off;
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();
-- Calls every function once; answers how many of them succeeded, and that the books agree.
CREATE FUNCTION pg_temp.day_at_the_shop() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    item bigint := flashsale.create_item(5, unit_price => 100, currency => 'EUR', max_per_user => 4);
    one bigint := flashsale.purchase_item(item, 'alice', 2, 'key') ->> 'order_id';
    two bigint := flashsale.purchase_item(item, 42) ->> 'order_id';
    answers jsonb[] := ARRAY[
        flashsale.purchase_item(item, 'alice', 2, 'key'), flashsale.purchase_item(item, '0a8f3e9c-1c1d-4b2b-9c55-6f0e6a1c7d21'::uuid),
        flashsale.begin_payment(one), flashsale.confirm_order(one, 'pay' || one, 200, 'EUR'), flashsale.confirm_order(one, 'pay' || one),
        flashsale.cancel_order(two, 'reason'), flashsale.get_order(one), flashsale.user_orders('alice'), flashsale.find_payment('pay' || one),
        flashsale.item_availability(item), flashsale.restock_item(item, 3), flashsale.pause_item(item), flashsale.resume_item(item),
        flashsale.reconcile_stale_reservations('0', 10), flashsale.refund_order(one), flashsale.refund_payment('pay' || one, 're')];
BEGIN
    RETURN format('%s of %s, %s, %s broken', (SELECT count(*) FROM unnest(answers) AS answer WHERE answer -> 'success' = 'true'),
        cardinality(answers), t.stock(item), (SELECT count(*) FROM flashsale.audit()));
END $$;
SELECT pg_temp.day_at_the_shop();
SELECT pg_temp.day_at_the_shop();

-- Columns, indexes, statistics, plans.
ALTER TABLE flashsale.items ADD COLUMN regress_extra text DEFAULT 'x';
SELECT pg_temp.day_at_the_shop();
ALTER TABLE flashsale.items DROP COLUMN regress_extra;
CREATE INDEX regress_extra ON flashsale.orders (item_id);
SELECT pg_temp.day_at_the_shop();
DROP INDEX flashsale.regress_extra;
VACUUM ANALYZE flashsale.items, flashsale.orders, flashsale.payments, flashsale.stock_movements;
SELECT pg_temp.day_at_the_shop();
CLUSTER flashsale.items USING items_pkey;
SELECT pg_temp.day_at_the_shop();
DISCARD PLANS;
SELECT pg_temp.day_at_the_shop();
-- A trigger of the owner is created and dropped. Its error reaches the caller unchanged.
BEGIN;
CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today' USING ERRCODE = '23514', HINT = 'Try tomorrow.'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse();
SELECT t.error('SELECT pg_temp.day_at_the_shop()');
ROLLBACK;
SELECT pg_temp.day_at_the_shop();

-- Settings of the session do not affect the answers.
SET DateStyle = 'SQL, DMY';
SET IntervalStyle = 'sql_standard';
SET TimeZone = 'Asia/Kathmandu';
SET bytea_output = 'escape';
SET extra_float_digits = -15;
SET array_nulls = off;
SET transform_null_equals = on;
SET default_transaction_isolation = 'serializable';
SET plan_cache_mode = 'force_generic_plan';
SET enable_indexscan = off;
SET row_security = off;
SET search_path = '';
SELECT pg_temp.day_at_the_shop();
SELECT flashsale.purchase_item(flashsale.create_item(1), 'bob') ->> 'expires_at' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d';
DISCARD PLANS;
RESET ALL;
SELECT pg_temp.day_at_the_shop();

-- The extension is dropped and created, also in a transaction that is rolled back.
SET client_min_messages = warning;
SET flashsale.protect_data = off;
BEGIN;
DROP EXTENSION flashsale;
SELECT t.error('SELECT flashsale.purchase_item(1, 1)');
ROLLBACK;
SELECT pg_temp.day_at_the_shop();
DROP EXTENSION flashsale;
SELECT t.error('SELECT flashsale.purchase_item(1, 1)');
SELECT count(*) FROM pg_namespace WHERE nspname = 'flashsale';
CREATE EXTENSION flashsale;
SELECT pg_temp.day_at_the_shop();
BEGIN;
DROP EXTENSION flashsale;
CREATE EXTENSION flashsale;
SELECT pg_temp.day_at_the_shop();
ROLLBACK;
SELECT pg_temp.day_at_the_shop();
-- It moves to no other schema.
SELECT t.error('ALTER EXTENSION flashsale SET SCHEMA public');
RESET client_min_messages;
DISCARD ALL;
SELECT t.answer(flashsale.purchase_item(flashsale.create_item(1), 'alice'));
SELECT * FROM flashsale.audit();
