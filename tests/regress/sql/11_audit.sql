-- audit() finds each broken invariant: rows are broken by hand, after the constraint that prevents it was dropped.
\pset tuples_only on
\pset format unaligned
\pset null (null)
SET DateStyle = ISO;
CALL t.reset();
SELECT * FROM flashsale.audit();
SELECT flashsale.create_item(10, unit_price => 5, currency => 'EUR', item_id => 1),
       flashsale.create_item(10, item_id => 2);
SELECT count(*) FROM unnest('{alice,bob,carol,dave,erin,frank,gina}'::text[]) AS who,
    flashsale.purchase_item(1, who) AS answer WHERE answer -> 'success' = 'true';
SELECT flashsale.purchase_item(2, 'hal') ->> 'success', flashsale.confirm_order(t.id('hal')) ->> 'status';
SELECT flashsale.begin_payment(t.id('bob')) ->> 'status';
SELECT flashsale.confirm_order(t.id('carol'), 'pay-carol') ->> 'status',
       flashsale.confirm_order(t.id('carol'), 'pay-carol-2') ->> 'reason';
SELECT flashsale.cancel_order(t.id('dave')) ->> 'status',
       flashsale.confirm_order(t.id('dave'), 'pay-dave') ->> 'reason';
CALL t.make_stale('erin');
SELECT flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT flashsale.confirm_order(t.id('frank'), 'pay-frank') ->> 'status',
       flashsale.refund_order(t.id('frank'), false) ->> 'status';
SELECT flashsale.refund_payment('pay-frank') ->> 'status';
SELECT flashsale.restock_item(2, -3) ->> 'success';
-- All is well after every kind of move.
SELECT * FROM flashsale.audit();

-- What it finds now, orders by their buyers.
CREATE FUNCTION pg_temp.found() RETURNS TABLE (invariant text, item_id bigint, name text, payment_ref text, detail text) LANGUAGE sql AS $$
    SELECT invariant, item_id, t.name(order_id), payment_ref,
           regexp_replace(detail, '\d{4}-\d\d-\d\d [^,]*', 'time', 'g')
    FROM flashsale.audit() ORDER BY 1, 2, 3, 4
$$;

-- units_add_up_to_stock: a unit too many, one lost, an order that vanished.
BEGIN;
UPDATE flashsale.items SET inventory = inventory + 1 WHERE item_id = 1;
UPDATE flashsale.items SET inventory = inventory - 1 WHERE item_id = 2;
SELECT * FROM pg_temp.found();
ROLLBACK;
BEGIN;
DELETE FROM flashsale.orders WHERE user_id = 'gina';
SELECT * FROM pg_temp.found();
ROLLBACK;

-- movements_add_up_to_stock: one lost, one too many, none at all, and a stock changed without one.
BEGIN;
DELETE FROM flashsale.stock_movements WHERE delta = -3;
INSERT INTO flashsale.stock_movements (item_id, delta) VALUES (1, 4);
SELECT * FROM pg_temp.found();
DELETE FROM flashsale.stock_movements WHERE item_id = 1;
SELECT * FROM pg_temp.found();
ROLLBACK;
BEGIN;
UPDATE flashsale.items SET stock = stock + 1, inventory = inventory + 1 WHERE item_id = 1;
SELECT * FROM pg_temp.found();
ROLLBACK;

-- inventory_within_stock: below 0, and above the stock.
BEGIN;
ALTER TABLE flashsale.items DROP CONSTRAINT items_inventory_range;
UPDATE flashsale.items SET inventory = -1 WHERE item_id = 1;
UPDATE flashsale.items SET inventory = stock + 1 WHERE item_id = 2;
SELECT * FROM pg_temp.found() WHERE invariant <> 'units_add_up_to_stock';
ROLLBACK;

-- order_has_item
BEGIN;
ALTER TABLE flashsale.items DISABLE TRIGGER guard_items;
DELETE FROM flashsale.items WHERE item_id = 2;
SELECT * FROM pg_temp.found();
ROLLBACK;

-- units_held_match_status: too many or too few units held, by live and by closed orders.
BEGIN;
ALTER TABLE flashsale.orders DROP CONSTRAINT orders_units_held;
UPDATE flashsale.orders SET units_held = 0 WHERE user_id IN ('alice', 'bob');
UPDATE flashsale.orders SET units_held = 2 WHERE user_id = 'carol';
UPDATE flashsale.orders SET units_held = 1 WHERE user_id IN ('dave', 'erin', 'frank');
SELECT * FROM pg_temp.found();
ROLLBACK;

-- reservation_expires and paying_has_deadline
BEGIN;
UPDATE flashsale.orders SET expires_at = NULL, payment_deadline = NULL WHERE user_id IN ('alice', 'bob', 'carol', 'erin');
SELECT * FROM pg_temp.found();
ROLLBACK;

-- order_status: times that do not go with it.
BEGIN;
UPDATE flashsale.orders SET confirmed_at = NULL WHERE user_id = 'carol';
UPDATE flashsale.orders SET closed_at = now() WHERE user_id = 'alice';
UPDATE flashsale.orders SET closed_at = NULL WHERE user_id = 'dave';
SELECT * FROM pg_temp.found();
ROLLBACK;

-- order_ids_and_texts: ids past 2^53 or below 1, texts empty or too long.
BEGIN;
UPDATE flashsale.orders SET order_id = 9007199254740992 WHERE user_id = 'alice';
UPDATE flashsale.orders SET order_id = 0 WHERE user_id = 'bob';
UPDATE flashsale.orders SET idempotency_key = '' WHERE user_id = 'dave';
UPDATE flashsale.orders SET idempotency_key = repeat('x', 256) WHERE user_id = 'erin';
UPDATE flashsale.orders SET user_id = repeat('x', 256) WHERE user_id = 'frank';
SELECT invariant, detail, count(*) FROM flashsale.audit() GROUP BY 1, 2 ORDER BY 1, 2;
ROLLBACK;

-- order_paid_once
BEGIN;
DROP INDEX flashsale.payments_paid_once;
UPDATE flashsale.payments SET status = 'paid', why = NULL, due_since = NULL WHERE payment_ref = 'pay-carol-2';
SELECT * FROM pg_temp.found();
ROLLBACK;

-- payment_pays_confirmed_order: of a cancelled, a refunded and an unknown order.
BEGIN;
UPDATE flashsale.payments SET status = 'paid', why = NULL, due_since = NULL, refunded_at = NULL WHERE payment_ref IN ('pay-dave', 'pay-frank');
INSERT INTO flashsale.payments (order_id, payment_ref, status) VALUES (404, 'pay-404', 'paid');
SELECT * FROM pg_temp.found();
ROLLBACK;

-- confirmed_order_has_payment: with a price it must; its payment lost, or another fate given to it.
BEGIN;
DELETE FROM flashsale.payments WHERE payment_ref = 'pay-carol' OR order_id = t.id('hal');
SELECT * FROM pg_temp.found();
ROLLBACK;
BEGIN;
UPDATE flashsale.payments SET status = 'due', why = 'duplicate_payment', due_since = now() WHERE payment_ref = 'pay-carol';
SELECT * FROM pg_temp.found();
ROLLBACK;

-- payment_has_one_fate: paid and due, due since never, refunded never, and no fate at all.
BEGIN;
ALTER TABLE flashsale.payments DROP CONSTRAINT payments_fate;
UPDATE flashsale.payments SET due_since = now() WHERE payment_ref = 'pay-carol';
UPDATE flashsale.payments SET due_since = NULL WHERE payment_ref = 'pay-carol-2';
UPDATE flashsale.payments SET refunded_at = NULL WHERE payment_ref = 'pay-frank';
UPDATE flashsale.payments SET status = 'lost' WHERE payment_ref = 'pay-dave';
SELECT * FROM pg_temp.found();
ROLLBACK;
BEGIN;
ALTER TABLE flashsale.payments DROP CONSTRAINT payments_fate;
UPDATE flashsale.payments SET refunded_at = now() WHERE payment_ref IN ('pay-carol', 'pay-dave');
SELECT * FROM pg_temp.found();
ROLLBACK;

-- An order in no known status, and the units it holds.
BEGIN;
ALTER TABLE flashsale.orders DROP CONSTRAINT orders_units_held;
UPDATE flashsale.orders SET status = 'lost' WHERE user_id = 'gina';
SELECT * FROM pg_temp.found();
ROLLBACK;

-- All is well again.
SELECT * FROM flashsale.audit();
