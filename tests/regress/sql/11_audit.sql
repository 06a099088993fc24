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

-- closed_units_match_orders: a count too high, two too low, and an order whose units moved from one to another.
BEGIN;
UPDATE flashsale.items SET cancelled_units = cancelled_units + 1 WHERE item_id = 1;
UPDATE flashsale.items SET expired_units = -1, refunded_units = 7 WHERE item_id = 2;
SELECT * FROM pg_temp.found();
ROLLBACK;
BEGIN;
UPDATE flashsale.orders SET status = 'expired' WHERE user_id = 'dave';
SELECT * FROM pg_temp.found();
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

-- audit(item_id): what audit() finds of one item, whatever kind it is, and nothing of others. Here each rule is
-- broken for both items, as far as a rule can be.
CREATE PROCEDURE pg_temp.break_all() LANGUAGE plpgsql AS $$
BEGIN
    ALTER TABLE flashsale.items DROP CONSTRAINT items_inventory_range;
    ALTER TABLE flashsale.orders DROP CONSTRAINT orders_units_held;
    ALTER TABLE flashsale.payments DROP CONSTRAINT payments_fate;
    DROP INDEX flashsale.payments_paid_once;
    UPDATE flashsale.items SET inventory = stock + 1, cancelled_units = 100;
    INSERT INTO flashsale.stock_movements (item_id, delta) SELECT item_id, 1 FROM flashsale.items;
    INSERT INTO flashsale.orders (order_id, item_id, quantity, units_held, created_at, status, user_id, unit_price)
    SELECT -10 * item_id - n, item_id, 1, 1, now(), status, 'broken', 5
    FROM unnest('{reserved,paying,confirmed,lost}'::text[]) WITH ORDINALITY AS v (status, n), flashsale.items;
    INSERT INTO flashsale.payments (order_id, payment_ref, status, order_ref)
    SELECT order_id, format('pay %s %s', order_id, n), 'paid', CASE WHEN n = 2 THEN 'ref' END
    FROM flashsale.orders, generate_series(1, 2) AS n WHERE user_id = 'broken' AND status <> 'confirmed';
    UPDATE flashsale.payments SET due_since = now() WHERE payment_ref LIKE 'pay % 2';
END $$;
BEGIN;
CALL pg_temp.break_all();
SELECT invariant, count(*) FILTER (WHERE item_id = 1), count(*) FILTER (WHERE item_id = 2), count(*) FILTER (WHERE item_id IS NULL)
FROM flashsale.audit() GROUP BY 1 ORDER BY 1;
SELECT item_id, (SELECT count(*) FROM flashsale.audit(i.item_id)) AS found,
       (SELECT count(*) FROM (SELECT * FROM flashsale.audit(i.item_id) EXCEPT ALL SELECT * FROM flashsale.audit() a WHERE a.item_id = i.item_id) d) AS too_much,
       (SELECT count(*) FROM (SELECT * FROM flashsale.audit() a WHERE a.item_id = i.item_id EXCEPT ALL SELECT * FROM flashsale.audit(i.item_id)) d) AS too_little
FROM flashsale.items i ORDER BY 1;
ROLLBACK;
-- One rule is broken for one item, another for the other.
BEGIN;
UPDATE flashsale.items SET expired_units = 5 WHERE item_id = 1;
UPDATE flashsale.items SET inventory = inventory - 1 WHERE item_id = 2;
SELECT invariant, a.item_id, detail FROM flashsale.audit(1) a;
SELECT invariant, a.item_id, detail FROM flashsale.audit(item_id => 2) a;
ROLLBACK;
-- An item that is gone, with an order that is not; no such item; none named.
BEGIN;
ALTER TABLE flashsale.items DISABLE TRIGGER guard_items;
DELETE FROM flashsale.items WHERE item_id = 2;
SELECT invariant, a.item_id, t.name(order_id), detail FROM flashsale.audit(2) a;
ROLLBACK;
SELECT t.error('SELECT flashsale.audit(404)'), t.error('SELECT flashsale.audit(NULL)');

-- All is well again.
SELECT * FROM flashsale.audit();
SELECT * FROM flashsale.audit(1);
SELECT * FROM flashsale.audit(2);
