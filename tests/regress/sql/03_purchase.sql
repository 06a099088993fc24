-- purchase_item: success, each reason, and which reason comes first when several hold.
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();

-- Success: the answer, the order and the stock.
SELECT flashsale.create_item(10, unit_price => 250, currency => 'EUR', item_id => 1);
SELECT t.answer(flashsale.purchase_item(1, 'alice'));
SELECT t.answer(flashsale.purchase_item(1, 'bob', 3));
SELECT t.stock(1);
SELECT t.name(order_id), item_id, quantity, units_held, status, user_id, unit_price, currency, idempotency_key,
       expires_at - created_at AS ttl, paying_at, payment_deadline, confirmed_at, closed_at, closed_by, close_reason
FROM flashsale.orders ORDER BY order_id;
-- The clock is read at the purchase, not at the begin of the transaction.
BEGIN;
SELECT pg_sleep(0.01);
SELECT flashsale.purchase_item(1, 'carol', strategy => 'nowait') ->> 'success';
SELECT created_at > now() AND created_at <= clock_timestamp() FROM flashsale.orders WHERE order_id = t.id('carol');
COMMIT;
-- The id is that of the row, below 2^53, and the times are those of the row.
SELECT flashsale.purchase_item(1, 'dave') AS answer \gset
SELECT (:'answer'::jsonb ->> 'order_id')::bigint = order_id,
       (:'answer'::jsonb ->> 'expires_at')::timestamptz = expires_at
FROM flashsale.orders WHERE user_id = 'dave';

-- An item without a price, and one with its own reservation time.
SELECT flashsale.create_item(2, reservation_ttl => '90 seconds', item_id => 2);
SELECT t.answer(flashsale.purchase_item(2, 'alice'));
SELECT expires_at - created_at FROM flashsale.orders WHERE item_id = 2;
-- The setting applies if the item does not set a time.
SET flashsale.reservation_ttl = '45s';
SELECT flashsale.purchase_item(2, 'bob') ->> 'success', flashsale.purchase_item(1, 'bob') ->> 'success';
SELECT item_id, expires_at - created_at FROM flashsale.orders WHERE user_id = 'bob' ORDER BY order_id DESC LIMIT 2;
RESET flashsale.reservation_ttl;

-- The price is that at the time of the purchase.
UPDATE flashsale.items SET unit_price = 300, currency = 'USD' WHERE item_id = 1;
SELECT t.answer(flashsale.purchase_item(1, 'erin'));
SELECT unit_price, currency, count(*) FROM flashsale.orders WHERE item_id = 1 GROUP BY unit_price,
       currency ORDER BY unit_price;

-- item_not_found
SELECT id, t.answer(flashsale.purchase_item(id, 'alice'))
FROM unnest('{3,0,-1,9007199254740992,9223372036854775807,-9223372036854775808}'::bigint[]) AS id;

-- out_of_stock: below the quantity, then at 0. All units or none.
SELECT flashsale.create_item(5, item_id => 4);
SELECT t.answer(flashsale.purchase_item(4, 'alice', quantity))
FROM unnest('{6,2147483648,9007199254740992,9223372036854775807}'::bigint[]) AS quantity;
SELECT t.stock(4);
SELECT t.answer(flashsale.purchase_item(4, 'alice', 5));
SELECT t.answer(flashsale.purchase_item(4, 'bob'));
SELECT t.answer(flashsale.purchase_item(4, 'bob', 9223372036854775807));
SELECT t.stock(4);
SELECT flashsale.create_item(0, item_id => 5);
SELECT t.answer(flashsale.purchase_item(5, 'alice'));

-- The window: from starts_at on, until before ends_at.
SELECT flashsale.create_item(5, starts_at => 'now'::timestamptz + '1 hour', ends_at => 'now'::timestamptz + '2 hours', item_id => 6);
SELECT t.answer(flashsale.purchase_item(6, 'alice'));
SELECT (flashsale.purchase_item(6, 'alice') ->> 'starts_at')::timestamptz = starts_at
FROM flashsale.items WHERE item_id = 6;
UPDATE flashsale.items SET starts_at = now() WHERE item_id = 6;
SELECT flashsale.purchase_item(6, 'alice') ->> 'success';
UPDATE flashsale.items SET starts_at = now() - interval '1 hour', ends_at = now() WHERE item_id = 6;
SELECT t.answer(flashsale.purchase_item(6, 'alice'));
SELECT (flashsale.purchase_item(6, 'alice') ->> 'ends_at')::timestamptz = ends_at
FROM flashsale.items WHERE item_id = 6;
UPDATE flashsale.items SET starts_at = '-infinity', ends_at = 'infinity' WHERE item_id = 6;
SELECT flashsale.purchase_item(6, 'alice') ->> 'success';
UPDATE flashsale.items SET starts_at = 'infinity', ends_at = NULL WHERE item_id = 6;
SELECT t.answer(flashsale.purchase_item(6, 'alice'));
-- The clock decides, not the begin of the transaction.
BEGIN;
UPDATE flashsale.items SET starts_at = now() + interval '20 ms', ends_at = NULL WHERE item_id = 6;
SELECT pg_sleep(0.03);
SELECT flashsale.purchase_item(6, 'bob', strategy => 'nowait') ->> 'success';
ROLLBACK;

-- sale_paused, and on again.
SELECT flashsale.create_item(5, item_id => 7), flashsale.pause_item(7) ->> 'success';
SELECT t.answer(flashsale.purchase_item(7, 'alice'));
SELECT flashsale.resume_item(7) ->> 'success';
SELECT flashsale.purchase_item(7, 'alice') ->> 'success';
SELECT t.stock(7);

-- user_limit_reached, with the orders that the user holds.
SELECT flashsale.create_item(9, max_per_user => 2, item_id => 8);
SELECT t.answer(flashsale.purchase_item(8, 'frank', 3));
SELECT flashsale.purchase_item(8, 'frank') ->> 'success', flashsale.purchase_item(8, 'frank') ->> 'success';
SELECT t.answer(flashsale.purchase_item(8, 'frank'));
SELECT t.answer(flashsale.purchase_item(8, 'frank', 9223372036854775807));
SELECT flashsale.purchase_item(8, 'grace') ->> 'success';
SELECT t.stock(8);

-- Which reason comes first. An item sold out, paused, over, its user at the limit: taken away one by one.
SELECT flashsale.create_item(2, max_per_user => 2, item_id => 9);
SELECT flashsale.purchase_item(9, 'heidi', 2, 'first') ->> 'success';
UPDATE flashsale.items SET paused = true, starts_at = now() + interval '1 day' WHERE item_id = 9;
SELECT flashsale.purchase_item(10, 'heidi', 2, 'first') ->> 'reason';
SELECT t.answer(flashsale.purchase_item(9, 'heidi', 2, 'first'));
SELECT t.answer(flashsale.purchase_item(9, 'heidi', 3, 'first'));
SELECT flashsale.purchase_item(9, 'heidi', 5, 'other') ->> 'reason';
SELECT flashsale.restock_item(9, 1) ->> 'success';
SELECT t.answer(flashsale.purchase_item(9, 'heidi', 2, 'first'));
SELECT t.answer(flashsale.purchase_item(9, 'heidi', 3, 'first'));
-- Between window and pause either may be answered, but the same as by item_availability.
SELECT flashsale.purchase_item(9, 'heidi', 5, 'other') ->> 'reason', flashsale.item_availability(9) ->> 'state';
UPDATE flashsale.items SET starts_at = NULL, ends_at = now() WHERE item_id = 9;
SELECT flashsale.purchase_item(9, 'heidi', 5, 'other') ->> 'reason', flashsale.item_availability(9) ->> 'state';
SELECT flashsale.resume_item(9) ->> 'success';
SELECT flashsale.purchase_item(9, 'heidi', 5, 'other') ->> 'reason';
UPDATE flashsale.items SET paused = true, ends_at = NULL WHERE item_id = 9;
SELECT flashsale.purchase_item(9, 'heidi', 5, 'other') ->> 'reason';
SELECT flashsale.resume_item(9) ->> 'success';
SELECT flashsale.purchase_item(9, 'heidi', 5, 'other') ->> 'reason';
UPDATE flashsale.items SET max_per_user = NULL WHERE item_id = 9;
SELECT flashsale.purchase_item(9, 'heidi', 5, 'other') ->> 'reason';
SELECT flashsale.purchase_item(9, 'heidi', 1, 'other') ->> 'success';
SELECT t.stock(9);

-- Each failure has a message.
SELECT DISTINCT answer ->> 'reason', answer ->> 'message' FROM (VALUES
    (flashsale.purchase_item(3, 'alice')), (flashsale.purchase_item(4, 'bob')), (flashsale.purchase_item(8, 'frank')),
    (flashsale.purchase_item(7, 'alice', 9)), (flashsale.purchase_item(9, 'heidi', 2, 'other'))) AS v (answer)
ORDER BY 1, 2;
SELECT * FROM flashsale.audit();
