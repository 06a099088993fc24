-- Idempotency keys in one session, and the per-user limit over the whole life of an order.
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();

-- The same key is the same purchase: the first order again, no further unit.
SELECT flashsale.create_item(10, unit_price => 250, currency => 'EUR', item_id => 1);
SELECT t.answer(flashsale.purchase_item(1, 'alice', 2, 'k1'));
SELECT t.answer(flashsale.purchase_item(1, 'alice', 2, 'k1'));
SELECT flashsale.purchase_item(1, 'alice', 2, 'k1') ->> 'expires_at' = flashsale.get_order(t.id('alice')) ->> 'expires_at';
SELECT t.stock(1);
-- The first price is kept.
UPDATE flashsale.items SET unit_price = 999, currency = 'USD' WHERE item_id = 1;
SELECT t.answer(flashsale.purchase_item(1, 'alice', 2, 'k1'));
-- Another quantity is another purchase under a key that is taken.
SELECT t.answer(flashsale.purchase_item(1, 'alice', 1, 'k1'));
SELECT t.answer(flashsale.purchase_item(1, 'alice', 9223372036854775807, 'k1'));
-- Another key, user or item, or no key, is a purchase of its own. Keys are told apart to the letter.
SELECT flashsale.create_item(10, item_id => 2);
SELECT t.name((answer ->> 'order_id')::bigint), answer ->> 'replayed' FROM (VALUES
    (flashsale.purchase_item(1, 'alice', 2, 'k2')), (flashsale.purchase_item(1, 'bob', 2, 'k1')),
    (flashsale.purchase_item(2, 'alice', 2, 'k1')), (flashsale.purchase_item(1, 'alice', 1, 'K1')),
    (flashsale.purchase_item(1, 'alice', 1, 'k1 ')), (flashsale.purchase_item(1, 'alice')),
    (flashsale.purchase_item(1, 'alice'))) AS v (answer);
SELECT t.stock(1), t.stock(2);

-- A replay holds on a sold-out, paused item out of its window, past the limit.
SELECT flashsale.create_item(1, max_per_user => 1, item_id => 3);
SELECT flashsale.purchase_item(3, 'carol', 1, 'k') ->> 'replayed';
SELECT t.answer(flashsale.purchase_item(3, 'carol', 1, 'k'));
SELECT flashsale.purchase_item(3, 'carol', 1, 'other') ->> 'reason';
SELECT t.answer(flashsale.purchase_item(3, 'carol', 2, 'k'));
UPDATE flashsale.items SET paused = true, starts_at = 'infinity' WHERE item_id = 3;
SELECT t.answer(flashsale.purchase_item(3, 'carol', 1, 'k'));
-- A replay changes nothing, not even the version, and needs no transaction id.
SELECT version AS version FROM flashsale.items WHERE item_id = 3 \gset
BEGIN;
SELECT flashsale.purchase_item(3, 'carol', 1, 'k', strategy => 'nowait') ->> 'replayed', pg_current_xact_id_if_assigned();
COMMIT;
SELECT version = :version FROM flashsale.items WHERE item_id = 3;

-- A replay tells the status of today: paying, confirmed, and of a dead order that it is dead.
SELECT flashsale.begin_payment(t.id('alice')) ->> 'status';
SELECT t.answer(flashsale.purchase_item(1, 'alice', 2, 'k1'));
SELECT flashsale.confirm_order(t.id('alice'), 'pay-1') ->> 'status';
SELECT t.answer(flashsale.purchase_item(1, 'alice', 2, 'k1'));
SELECT flashsale.refund_order(t.id('alice')) ->> 'status';
SELECT t.answer(flashsale.purchase_item(1, 'alice', 2, 'k1'));
SELECT flashsale.cancel_order(t.id('bob')) ->> 'status';
SELECT t.answer(flashsale.purchase_item(1, 'bob', 2, 'k1'));
CALL t.make_stale('alice/2');
SELECT flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT t.answer(flashsale.purchase_item(1, 'alice', 2, 'k2'));
SELECT t.answer(flashsale.purchase_item(1, 'alice', 1, 'k2'));
SELECT t.stock(1);

-- A refusal does not use the key up.
SELECT flashsale.create_item(1, item_id => 4);
SELECT flashsale.purchase_item(4, 'dave', 2, 'k') ->> 'reason';
SELECT flashsale.restock_item(4, 1) ->> 'success';
SELECT t.answer(flashsale.purchase_item(4, 'dave', 2, 'k'));
-- Neither does a purchase that was rolled back.
SELECT flashsale.create_item(1, item_id => 5);
BEGIN;
SELECT flashsale.purchase_item(5, 'dave', 1, 'k', strategy => 'nowait') ->> 'replayed';
SELECT flashsale.purchase_item(5, 'dave', 1, 'k', strategy => 'nowait') ->> 'replayed';
ROLLBACK;
SELECT flashsale.purchase_item(5, 'dave', 1, 'k') ->> 'replayed';
-- Twice in one statement.
SELECT flashsale.purchase_item(1, 'twin', 1, 'k') ->> 'replayed',
       flashsale.purchase_item(1, 'twin', 1, 'k') ->> 'replayed';

-- The limit counts what is reserved, being paid for and bought.
SELECT flashsale.create_item(100, max_per_user => 3, item_id => 6);
SELECT flashsale.purchase_item(6, 'erin', 2) ->> 'success', flashsale.purchase_item(6, 'erin') ->> 'success';
SELECT t.answer(flashsale.purchase_item(6, 'erin'));
SELECT flashsale.begin_payment(t.id('erin')) ->> 'status';
SELECT t.answer(flashsale.purchase_item(6, 'erin'));
SELECT flashsale.confirm_order(t.id('erin'), 'pay-erin') ->> 'status',
       flashsale.confirm_order(t.id('erin/2')) ->> 'status';
SELECT t.answer(flashsale.purchase_item(6, 'erin'));
-- A refund frees it, and so does a refund that writes the units off, a cancel and an expiry.
SELECT flashsale.refund_order(t.id('erin/2'), restock => false) ->> 'status';
SELECT flashsale.purchase_item(6, 'erin', 2) ->> 'reason';
SELECT flashsale.purchase_item(6, 'erin') ->> 'success';
SELECT flashsale.purchase_item(6, 'erin') ->> 'reason';
SELECT flashsale.cancel_order(t.id('erin/3')) ->> 'status';
SELECT flashsale.purchase_item(6, 'erin') ->> 'success';
SELECT flashsale.purchase_item(6, 'erin') ->> 'reason';
CALL t.make_stale('erin/4');
SELECT flashsale.purchase_item(6, 'erin') ->> 'reason';
SELECT flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT t.answer(flashsale.purchase_item(6, 'erin', 2));
SELECT flashsale.refund_order(t.id('erin')) ->> 'status';
SELECT flashsale.purchase_item(6, 'erin', 3) ->> 'success';
SELECT t.answer(flashsale.purchase_item(6, 'erin'));

-- It is one user's and one item's.
SELECT flashsale.purchase_item(6, 'frank', 3) ->> 'success';
SELECT flashsale.create_item(100, max_per_user => 1, item_id => 7);
SELECT flashsale.purchase_item(7, 'erin') ->> 'success';
SELECT t.answer(flashsale.purchase_item(7, 'erin', 1));
-- Lowered below what is held, raised again, lifted.
UPDATE flashsale.items SET max_per_user = 1 WHERE item_id = 6;
SELECT t.answer(flashsale.purchase_item(6, 'frank'));
UPDATE flashsale.items SET max_per_user = 4 WHERE item_id = 6;
SELECT flashsale.purchase_item(6, 'frank', 2) ->> 'reason', flashsale.purchase_item(6, 'frank') ->> 'success';
UPDATE flashsale.items SET max_per_user = NULL WHERE item_id = 6;
SELECT flashsale.purchase_item(6, 'frank', 9) ->> 'success';
-- At the largest limit and quantity nothing overflows.
UPDATE flashsale.items SET max_per_user = 2147483647 WHERE item_id = 6;
SELECT t.answer(flashsale.purchase_item(6, 'frank', 9223372036854775807));
SELECT t.answer(flashsale.purchase_item(6, 'frank', 2147483647 - 13));
SELECT t.answer(flashsale.purchase_item(6, 'frank', 2147483647 - 12));
-- The answer names 20 orders at most.
SELECT flashsale.create_item(100, max_per_user => 25, item_id => 8);
SELECT count(*) FROM generate_series(1, 25) WHERE flashsale.purchase_item(8, 'gina') -> 'success' = 'true';
SELECT jsonb_array_length(flashsale.purchase_item(8, 'gina') -> 'order_ids');
SELECT count(DISTINCT id), bool_and(o.user_id = 'gina' AND o.item_id = 8)
FROM jsonb_array_elements(flashsale.purchase_item(8, 'gina') -> 'order_ids') AS id
JOIN flashsale.orders o ON o.order_id = id::bigint;
SELECT t.stock(6), t.stock(7), t.stock(8);
SELECT * FROM flashsale.audit();
