-- Look-ups: get_order, user_orders, find_payment, item_availability and the views.
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();
SELECT flashsale.create_item(20, 'Console', 250, 'EUR', 9, item_id => 1);
SELECT count(*) FROM unnest('{alice,bob,carol,dave,erin,frank}'::text[]) AS who,
    flashsale.purchase_item(1, who, 2, 'key of ' || who) AS answer WHERE answer -> 'success' = 'true';
SELECT flashsale.begin_payment(t.id('bob')) ->> 'status';
SELECT flashsale.begin_payment(t.id('carol')) ->> 'status',
       flashsale.confirm_order(t.id('carol'), 'pay-carol', 500, 'EUR') ->> 'status';
SELECT flashsale.cancel_order(t.id('dave'), 'changed his mind') ->> 'status';
SELECT flashsale.confirm_order(t.id('dave'), 'pay-dave-1') ->> 'reason',
       flashsale.confirm_order(t.id('dave'), 'pay-dave-2', 500, 'EUR') ->> 'reason';
CALL t.make_stale('erin');
SELECT flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT flashsale.confirm_order(t.id('frank')) ->> 'status', flashsale.refund_order(t.id('frank'), false) ->> 'status';

-- get_order in each status.
SELECT t.answer(flashsale.get_order(t.id(who))) FROM unnest('{alice,bob,carol,dave,erin,frank}'::text[]) AS who;
SELECT t.answer(flashsale.get_order(id))
FROM unnest('{0,-1,12345,9223372036854775807,-9223372036854775808}'::bigint[]) AS id;
-- Without price and currency; with a total past 32 bits; with text that JSON must escape.
SELECT flashsale.create_item(9007199254740991, unit_price => 1, item_id => 2), flashsale.create_item(5, item_id => 3);
SELECT flashsale.purchase_item(2, 'gina', 9007199254740991) ->> 'success',
       flashsale.purchase_item(3, E'"h\\al"\n\u00e9') ->> 'success';
SELECT t.answer(flashsale.get_order(t.id('gina')));
SELECT t.answer(flashsale.get_order(t.id(E'"h\\al"\n\u00e9')));
-- The times are those of the row, in ISO form whatever the session's DateStyle.
SHOW DateStyle;
SELECT (answer ->> 'created_at')::timestamptz = created_at, (answer ->> 'expires_at')::timestamptz = expires_at,
       (answer ->> 'paying_at')::timestamptz = paying_at, (answer ->> 'payment_deadline')::timestamptz = payment_deadline,
       (answer ->> 'confirmed_at')::timestamptz = confirmed_at
FROM flashsale.orders o, flashsale.get_order(o.order_id) AS answer WHERE user_id = 'carol';
SELECT (answer ->> 'closed_at')::timestamptz = closed_at FROM flashsale.orders o,
       flashsale.get_order(o.order_id) AS answer WHERE user_id = 'dave';

-- user_orders: newest first, 100 at most.
SELECT t.answer(flashsale.user_orders('carol'));
SELECT flashsale.purchase_item(1, 'ivy') ->> 'success', flashsale.purchase_item(3, 'ivy', 2) ->> 'success',
       flashsale.purchase_item(1, 'ivy', 3) ->> 'success';
SELECT flashsale.cancel_order(t.id('ivy/2')) ->> 'status';
SELECT n, t.value('order_id', o -> 'order_id'), o ->> 'status'
FROM jsonb_array_elements(flashsale.user_orders('ivy') -> 'orders') WITH ORDINALITY AS orders (o, n);
SELECT o = flashsale.get_order((o ->> 'order_id')::bigint) - 'success'
FROM jsonb_array_elements(flashsale.user_orders('ivy') -> 'orders') AS o;
SELECT flashsale.create_item(200, item_id => 4);
SELECT count(*) FROM generate_series(1, 101) WHERE flashsale.purchase_item(4, 'jack') -> 'success' = 'true';
SELECT count(*), t.value('order_ids', jsonb_agg(o -> 'order_id') -> 0),
       t.value('order_ids', jsonb_agg(o -> 'order_id') -> -1)
FROM jsonb_array_elements(flashsale.user_orders('jack') -> 'orders') AS o;
SELECT t.answer(flashsale.user_orders('nobody'));
SELECT t.answer(flashsale.user_orders('Carol'));
SELECT flashsale.purchase_item(1, 42, strategy => 'nowait') ->> 'success', jsonb_array_length(flashsale.user_orders('42') -> 'orders');

-- find_payment: paid, due, refunded.
SELECT t.answer(flashsale.find_payment('pay-carol'));
SELECT t.answer(flashsale.find_payment('pay-dave-1'));
SELECT flashsale.refund_payment('pay-dave-2', 're-dave') ->> 'status';
SELECT t.answer(flashsale.find_payment('pay-dave-2'));
SELECT flashsale.confirm_order(404, 'pay-404') ->> 'reason';
SELECT t.answer(flashsale.find_payment('pay-404'));
SELECT t.answer(flashsale.find_payment('pay-nobody'));
SELECT t.answer(flashsale.find_payment('Pay-carol'));

-- item_availability: each state.
SELECT t.answer(flashsale.item_availability(1));
SELECT t.answer(flashsale.item_availability(2));
SELECT t.answer(flashsale.item_availability(3));
UPDATE flashsale.items SET starts_at = now() + interval '1 hour', ends_at = now() + interval '2 hours' WHERE item_id = 3;
SELECT t.answer(flashsale.item_availability(3));
SELECT (answer ->> 'starts_at')::timestamptz = starts_at, (answer ->> 'ends_at')::timestamptz = ends_at
FROM flashsale.items, flashsale.item_availability(3) AS answer WHERE item_id = 3;
UPDATE flashsale.items SET starts_at = NULL, ends_at = now() WHERE item_id = 3;
SELECT t.answer(flashsale.item_availability(3));
UPDATE flashsale.items SET ends_at = NULL WHERE item_id = 3;
SELECT flashsale.pause_item(3) ->> 'paused';
SELECT t.answer(flashsale.item_availability(3));
SELECT t.answer(flashsale.item_availability(id))
FROM unnest('{0,-1,12345,9223372036854775807,-9223372036854775808}'::bigint[]) AS id;

-- item_status: units by where they are; they add up to the stock.
SELECT * FROM flashsale.item_status ORDER BY item_id;
SELECT item_id FROM flashsale.item_status WHERE inventory + reserved + paying + confirmed <> stock;
SELECT s.item_id, s.state, flashsale.item_availability(s.item_id) ->> 'state'
FROM flashsale.item_status s ORDER BY item_id;

-- payment_checks: in paying and past the deadline, and nothing else.
SELECT t.name(order_id) FROM flashsale.payment_checks;
UPDATE flashsale.orders SET payment_deadline = payment_deadline - interval '1 hour' WHERE paying_at IS NOT NULL;
SELECT t.name(order_id), item_id, user_id, quantity, amount, currency, paying_at IS NOT NULL,
       payment_deadline <= clock_timestamp(),
       overdue BETWEEN '29 min' AND '31 min' FROM flashsale.payment_checks;
SELECT t.answer(flashsale.reconcile_stale_reservations());
SELECT flashsale.confirm_order(t.id('bob'), 'pay-bob', 500, 'EUR') ->> 'status';
SELECT t.name(order_id) FROM flashsale.payment_checks;

-- refunds_due: one row a payment, of unknown orders too.
SELECT payment_ref, t.name(order_id), user_id, amount, currency, due_since <= clock_timestamp(), why
FROM flashsale.refunds_due ORDER BY due_since;

-- No look-up takes a transaction id or changes anything: all work in a read-only transaction.
BEGIN READ ONLY;
SELECT flashsale.get_order(t.id('carol')) ->> 'success', flashsale.user_orders('carol') ->> 'success',
       flashsale.find_payment('pay-carol') ->> 'success', flashsale.item_availability(1) ->> 'success',
       (SELECT count(*) FROM flashsale.audit()), (SELECT count(*) FROM flashsale.item_status),
       pg_current_xact_id_if_assigned();
COMMIT;
-- None reads a table whole, even while it is small: its plan is saved, and the table grows.
SELECT t.id('carol') AS carol \gset
BEGIN;
SELECT sum(seq_scan) AS before FROM pg_stat_xact_user_tables WHERE schemaname = 'flashsale' \gset
SELECT flashsale.get_order(:carol) ->> 'success', flashsale.user_orders('carol') ->> 'success',
       flashsale.find_payment('pay-carol') ->> 'success', flashsale.item_availability(1) ->> 'success';
SELECT sum(seq_scan) - :before AS whole FROM pg_stat_xact_user_tables WHERE schemaname = 'flashsale';
COMMIT;
-- A look-up sees the changes of its own transaction.
BEGIN;
SELECT flashsale.cancel_order(t.id('alice')) ->> 'status';
SELECT flashsale.get_order(t.id('alice')) ->> 'status', flashsale.item_availability(1) ->> 'remaining_inventory';
ROLLBACK;
SELECT flashsale.get_order(t.id('alice')) ->> 'status', flashsale.item_availability(1) ->> 'remaining_inventory';
-- A charge that was reported for an id before there was such an order is not that order's.
SELECT last_value + 1 AS next FROM flashsale.orders_order_id_seq \gset
SELECT flashsale.confirm_order(:next, 'pay-stray', 5, 'JPY') ->> 'reason';
SELECT flashsale.purchase_item(1, 'erin') ->> 'success';
SELECT flashsale.get_order(:next) ->> 'user_id', flashsale.get_order(:next) -> 'payments', flashsale.user_orders('erin') #> '{orders,0,payments}';
SELECT * FROM flashsale.audit();
