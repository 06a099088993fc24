-- busy: what each function answers while another transaction holds a row or a table. That
-- transaction is prepared, so that it holds its locks without a session.
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();
SELECT flashsale.create_item(10, unit_price => 250, currency => 'EUR', item_id => 1),
       flashsale.create_item(10, item_id => 2), flashsale.create_item(1, item_id => 3);
SELECT count(*) FROM unnest('{alice,bob,carol,dave,erin,frank}'::text[]) AS who,
       flashsale.purchase_item(1, who, 1, 'key') AS answer;
SELECT flashsale.purchase_item(3, 'gina') ->> 'success';
SELECT flashsale.confirm_order(t.id('bob'), 'pay-bob') ->> 'status',
       flashsale.confirm_order(t.id('bob'), 'pay-bob-2') ->> 'reason';
CALL t.make_stale('carol');
SELECT flashsale.reconcile_stale_reservations() ->> 'expired';
SET flashsale.lock_wait = '50ms';

-- An item's row is held.
BEGIN;
SELECT item_id FROM flashsale.items WHERE item_id IN (1, 3) ORDER BY item_id FOR UPDATE;
PREPARE TRANSACTION 'other';
SELECT t.answer(flashsale.purchase_item(1, 'hal'));
SELECT t.answer(flashsale.purchase_item(1, 'hal', 1, 'key'));
SELECT t.answer(flashsale.purchase_item(1, 42));
SELECT t.answer(flashsale.restock_item(1, 1));
SELECT t.answer(flashsale.pause_item(1));
SELECT t.answer(flashsale.resume_item(1));
SELECT t.answer(flashsale.cancel_order(t.id('alice')));
SELECT t.answer(flashsale.refund_order(t.id('bob')));
SELECT t.answer(flashsale.refund_order(t.id('bob'), restock => false));
SELECT t.answer(flashsale.confirm_order(t.id('carol'), 'pay-carol'));
CALL t.make_stale('dave');
SELECT t.answer(flashsale.reconcile_stale_reservations());
-- Nothing has changed, and nothing is due.
SELECT * FROM t.orders();
SELECT * FROM t.payments();
SELECT t.stock(1);
-- Calls that do not need the row are not delayed: replays, refusals of sold-out items, other items, payments, look-ups.
SELECT flashsale.purchase_item(1, 'alice', 1, 'key') ->> 'replayed',
       flashsale.purchase_item(1, 'alice', 2, 'key') ->> 'reason';
SELECT flashsale.purchase_item(3, 'hal') ->> 'reason', flashsale.purchase_item(99, 'hal') ->> 'reason',
       flashsale.purchase_item(2, 'hal') ->> 'success';
SELECT flashsale.begin_payment(t.id('erin')) ->> 'status',
       flashsale.confirm_order(t.id('erin'), 'pay-erin') ->> 'status';
SELECT flashsale.refund_payment('pay-bob-2') ->> 'status', flashsale.create_item(1, item_id => 4);
SELECT flashsale.get_order(t.id('alice')) ->> 'status', flashsale.item_availability(1) ->> 'state',
       (SELECT count(*) FROM flashsale.audit());
-- A busy answer leaves the caller's transaction and its timeouts unchanged.
SET lock_timeout = '7s';
BEGIN;
CREATE TEMPORARY TABLE diary (note text);
INSERT INTO diary VALUES ('before');
SELECT flashsale.purchase_item(1, 'hal') ->> 'reason', flashsale.pause_item(1) ->> 'reason';
SHOW lock_timeout;
INSERT INTO diary VALUES ('after');
COMMIT;
SHOW lock_timeout;
RESET lock_timeout;
SELECT note FROM diary;
-- Retries within one call do not help while the lock is held.
SET flashsale.nowait_retries = 2;
SET flashsale.retry_delay = '1ms';
SELECT t.answer(flashsale.purchase_item(1, 'hal'));
RESET flashsale.nowait_retries;
RESET flashsale.retry_delay;
-- nowait does not wait, however long it might.
SET flashsale.lock_wait = '60s';
SET statement_timeout = '30s';
SELECT flashsale.purchase_item(1, 'hal') ->> 'reason';
-- The caller's own time limit raises an error instead of busy.
SET statement_timeout = '50ms';
\set VERBOSITY sqlstate
SELECT flashsale.pause_item(1);
SELECT flashsale.cancel_order(t.id('alice'));
\set VERBOSITY default
RESET statement_timeout;
SET flashsale.lock_wait = '50ms';
ROLLBACK PREPARED 'other';
-- Free again.
SELECT t.answer(flashsale.purchase_item(1, 'hal'));
SELECT t.answer(flashsale.reconcile_stale_reservations());
SELECT t.answer(flashsale.confirm_order(t.id('carol'), 'pay-carol'));

-- A batch waits for all of its items together as long as for one, and buys those that are free.
SELECT count(flashsale.create_item(1, item_id => item)) FROM generate_series(101, 120) AS item;
BEGIN;
SELECT count(*) FROM (SELECT item_id FROM flashsale.items WHERE item_id BETWEEN 101 AND 119 FOR UPDATE) AS held;
PREPARE TRANSACTION 'other';
SET flashsale.lock_wait = '500ms';
SELECT jsonb_agg(jsonb_build_object('item_id', item, 'user_id', 'kim')) AS clicks FROM generate_series(101, 120) AS item \gset
SELECT clock_timestamp() AS begun \gset
SELECT answer ->> 'success', answer ->> 'reason', count(*) FROM jsonb_array_elements(flashsale.purchase_batch(:'clicks', 'grouped')) AS answer
GROUP BY 1, 2 ORDER BY 1;
SELECT clock_timestamp() - :'begun' BETWEEN interval '500ms' AND interval '9s' AS together;
SHOW lock_timeout;
ROLLBACK PREPARED 'other';
SET flashsale.lock_wait = '50ms';

-- An order's row is held.
BEGIN;
SELECT order_id FROM flashsale.orders WHERE user_id IN ('alice', 'bob', 'frank') ORDER BY order_id FOR UPDATE;
PREPARE TRANSACTION 'other';
SELECT t.answer(flashsale.begin_payment(t.id('alice')));
SELECT t.answer(flashsale.confirm_order(t.id('alice'), 'pay-alice'));
SELECT t.answer(flashsale.confirm_order(t.id('bob'), 'pay-bob'));
SELECT t.answer(flashsale.cancel_order(t.id('alice')));
SELECT t.answer(flashsale.refund_order(t.id('bob')));
SELECT t.answer(flashsale.reconcile_stale_reservations('0'));
SELECT flashsale.purchase_item(1, 'alice') ->> 'success', flashsale.get_order(t.id('alice')) ->> 'status';
ROLLBACK PREPARED 'other';
SELECT * FROM t.orders() WHERE status = 'reserved';

-- A payment's row is held.
SELECT flashsale.confirm_order(t.id('bob'), 'pay-bob-3') ->> 'reason';
BEGIN;
SELECT payment_id FROM flashsale.payments WHERE payment_ref IN ('pay-bob', 'pay-bob-3') ORDER BY payment_id FOR UPDATE;
PREPARE TRANSACTION 'other';
SELECT t.answer(flashsale.refund_payment('pay-bob-3'));
SELECT t.answer(flashsale.refund_order(t.id('bob')));
SELECT flashsale.find_payment('pay-bob-3') ->> 'status';
ROLLBACK PREPARED 'other';

-- A charge whose report is under way elsewhere: the same ref, not committed yet.
BEGIN;
SELECT flashsale.confirm_order(t.id('frank'), 'pay-frank') ->> 'status';
PREPARE TRANSACTION 'other';
SELECT t.answer(flashsale.confirm_order(t.id('alice'), 'pay-frank'));
SELECT t.answer(flashsale.confirm_order(404, 'pay-frank'));
ROLLBACK PREPARED 'other';

-- A whole table is held, as by ALTER TABLE: every move is answered busy, and none waits for ever.
BEGIN;
LOCK TABLE flashsale.items;
PREPARE TRANSACTION 'other';
SELECT call || ' -> ' || (answer ->> 'reason') FROM (VALUES
    ('purchase_item', flashsale.purchase_item(1, 'ivy')), ('restock_item', flashsale.restock_item(1, 1)),
    ('pause_item', flashsale.pause_item(1)), ('resume_item', flashsale.resume_item(1)),
    ('cancel_order', flashsale.cancel_order(t.id('alice'))), ('refund_order', flashsale.refund_order(t.id('bob')))) AS v (call, answer);
CALL t.make_stale('frank');
SELECT t.answer(flashsale.reconcile_stale_reservations());
ROLLBACK PREPARED 'other';
SELECT t.id('alice') AS alice, t.id('bob') AS bob \gset
BEGIN;
LOCK TABLE flashsale.orders, flashsale.payments;
PREPARE TRANSACTION 'other';
SELECT call || ' -> ' || (answer ->> 'reason') FROM (VALUES
    ('purchase_item', flashsale.purchase_item(1, 'ivy')), ('purchase_item', flashsale.purchase_item(1, 'ivy', 1, 'key')),
    ('begin_payment', flashsale.begin_payment(:alice)), ('confirm_order', flashsale.confirm_order(:alice, 'pay-alice')),
    ('cancel_order', flashsale.cancel_order(:alice)), ('refund_order', flashsale.refund_order(:bob)),
    ('refund_payment', flashsale.refund_payment('pay-bob-3')),
    ('reconcile_stale_reservations', flashsale.reconcile_stale_reservations())) AS v (call, answer);
ROLLBACK PREPARED 'other';
-- So it is while an index is built, under which rows can be locked, but not updated: no order is at fault.
CALL t.make_stale('frank');
BEGIN;
LOCK TABLE flashsale.orders IN SHARE MODE;
PREPARE TRANSACTION 'other';
SELECT t.answer(flashsale.reconcile_stale_reservations());
ROLLBACK PREPARED 'other';
BEGIN;
LOCK TABLE flashsale.items IN SHARE MODE;
PREPARE TRANSACTION 'other';
SELECT t.answer(flashsale.reconcile_stale_reservations());
ROLLBACK PREPARED 'other';
SELECT t.stock(item_id) FROM flashsale.items WHERE item_id < 100 ORDER BY item_id;
SELECT * FROM flashsale.audit();
