-- A sequence behind its table, as after a restore or a setval, is moved past it, and the call goes on.
SET flashsale.protect_data = off;
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();
SELECT flashsale.create_item(1000, max_per_user => 5, item_id => 1);
SELECT count(*) FROM generate_series(1, 20) AS u, flashsale.purchase_item(1, u) AS answer WHERE answer -> 'success' = 'true';

-- Under every strategy, alone and in a batch, with and without a key. The order has an id past the others.
SELECT setval('flashsale.orders_order_id_seq', 1, false);
SELECT flashsale.purchase_item(1, 'alice', strategy => 'nowait') ->> 'order_id';
SELECT setval('flashsale.orders_order_id_seq', 1000);
SELECT flashsale.purchase_item(1, 'bob', 1, 'key', 'optimistic') ->> 'order_id';
SELECT setval('flashsale.orders_order_id_seq', 1019);
SELECT flashsale.purchase_item(1, 'carol', strategy => 'atomic') ->> 'order_id';
SELECT setval('flashsale.orders_order_id_seq', 10);
SELECT answer ->> 'order_id' FROM jsonb_array_elements(flashsale.purchase_batch(
    '[{"item_id":1,"user_id":"dave"},{"item_id":1,"user_id":"erin"},{"item_id":1,"user_id":"dave","idempotency_key":"k"}]')) AS answer;
-- Only some ids of a batch are taken.
SELECT setval('flashsale.orders_order_id_seq', max(order_id) - 1) < max(order_id) FROM flashsale.orders;
SELECT answer -> 'success' FROM jsonb_array_elements(flashsale.purchase_batch(
    '[{"item_id":1,"user_id":"frank"},{"item_id":1,"user_id":"frank"},{"item_id":1,"user_id":"gina"}]')) AS answer;

-- In a transaction of the caller's, which goes on, also when it sees one snapshot alone.
SELECT setval('flashsale.orders_order_id_seq', 1, false);
BEGIN;
SELECT flashsale.purchase_item(1, 'hal') -> 'success';
SELECT count(*) FROM flashsale.orders WHERE user_id = 'hal';
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
COMMIT;
SELECT setval('flashsale.orders_order_id_seq', 1, false);
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT flashsale.purchase_item(1, 'ida') -> 'success';
COMMIT;
-- Nothing moves it back when that is rolled back, and nothing moves it if it is past the table.
SELECT setval('flashsale.orders_order_id_seq', 1, false);
BEGIN;
SELECT flashsale.purchase_item(1, 'jack') -> 'success';
ROLLBACK;
SELECT last_value > (SELECT max(order_id) FROM flashsale.orders) FROM flashsale.orders_order_id_seq;
SELECT last_value AS before FROM flashsale.orders_order_id_seq \gset
SELECT (flashsale.purchase_item(1, 'jack') ->> 'order_id')::bigint - :before AS further;

-- It counts in its own steps, and it may have another name.
ALTER SEQUENCE flashsale.orders_order_id_seq INCREMENT BY 10 RESTART WITH 7;
ALTER SEQUENCE flashsale.orders_order_id_seq RENAME TO numbers;
SELECT (flashsale.purchase_item(1, 'kate') ->> 'order_id')::bigint % 10 AS last_digit;
INSERT INTO flashsale.orders (order_id, item_id, quantity, units_held, created_at, closed_at, status, user_id)
VALUES (7, 1, 1, 0, now(), now(), 'cancelled', 'old');
ALTER SEQUENCE flashsale.numbers RESTART WITH 7;
SELECT (flashsale.purchase_item(1, 'kate') ->> 'order_id')::bigint % 10 AS last_digit;
ALTER SEQUENCE flashsale.numbers RENAME TO orders_order_id_seq;
ALTER SEQUENCE flashsale.orders_order_id_seq INCREMENT BY 1;

-- Payments and stock movements have ids from sequences as well.
SELECT flashsale.confirm_order(t.id('alice'), 'pay-1') ->> 'status', flashsale.confirm_order(t.id('bob'), 'pay-2') ->> 'status';
SELECT setval('flashsale.payments_payment_id_seq', 1, false), setval('flashsale.stock_movements_movement_id_seq', 1, false);
SELECT flashsale.confirm_order(t.id('carol'), 'pay-3') ->> 'status', flashsale.restock_item(1, 5) ->> 'success';
SELECT setval('flashsale.payments_payment_id_seq', 1, false), setval('flashsale.stock_movements_movement_id_seq', 1, false);
SELECT flashsale.refund_order(t.id('alice'), false) ->> 'status', flashsale.create_item(5, item_id => 2),
       flashsale.confirm_order(t.id('alice'), 'pay-4') ->> 'reason';

-- Another unique key of a shop's own is no reason to try again.
CREATE TABLE t.loyal (user_id text CONSTRAINT loyal_once UNIQUE);
CREATE SEQUENCE t.tries;
CREATE FUNCTION t.welcome() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('t.tries');
    INSERT INTO t.loyal VALUES (NEW.user_id);
    RETURN NULL;
END $$;
CREATE TRIGGER welcome AFTER INSERT ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.welcome();
SELECT flashsale.purchase_item(1, 'liam') ->> 'success';
SELECT t.error('SELECT flashsale.purchase_item(1, ''liam'')');
SELECT last_value FROM t.tries;
-- With the trigger, purchases are made by statements.
SELECT setval('flashsale.orders_order_id_seq', 1, false);
SELECT flashsale.purchase_item(1, 'mia') ->> 'success';
DROP TRIGGER welcome ON flashsale.orders;
DROP FUNCTION t.welcome();
DROP TABLE t.loyal;
DROP SEQUENCE t.tries;

SELECT t.stock(1);
SELECT * FROM flashsale.audit();
