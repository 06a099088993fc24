-- Items: create_item, restock_item, pause_item, resume_item, the guards of the table and the version.
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();

-- An item with only its units, and its first movement.
SELECT flashsale.create_item(100);
SELECT item_id, inventory, stock, paused, max_per_user, starts_at, ends_at, reservation_ttl, unit_price, currency, name
FROM flashsale.items;
SELECT item_id, delta, order_id, moved_by = session_user AS by_me FROM flashsale.stock_movements;

-- An item with all arguments. Currencies are stored in capitals.
SELECT flashsale.create_item(5, 'Console', 49999, 'eur', 2, '2026-11-27 10:00+00', '2026-11-28 10:00+00', '10 minutes', 7);
SELECT item_id, inventory, stock, paused, max_per_user, starts_at AT TIME ZONE 'UTC', ends_at AT TIME ZONE 'UTC',
       reservation_ttl, unit_price, currency, name
FROM flashsale.items WHERE item_id = 7;

-- By name, in any order. A generated id skips ids that are taken.
SELECT flashsale.create_item(item_id => 2, inventory => 1), flashsale.create_item(item_id => 3, inventory => 1);
SELECT flashsale.create_item(inventory => 3, name => 'Cable');
SELECT flashsale.create_item(1::smallint, max_per_user => 1::smallint), flashsale.create_item(1::integer);
SELECT flashsale.create_item(1);

-- An item may have no units yet; then there is no movement.
SELECT flashsale.create_item(0, item_id => 20);
SELECT count(*) FROM flashsale.stock_movements WHERE item_id = 20;

-- At the limits.
SELECT flashsale.create_item(9007199254740991, item_id => 9007199254740991);
SELECT flashsale.create_item(9007199254740991, unit_price => 1, item_id => 30);
SELECT flashsale.create_item(1, unit_price => 9007199254740991, item_id => 31);
SELECT flashsale.create_item(0, unit_price => 9007199254740991, item_id => 32);
SELECT flashsale.create_item(3, unit_price => 3002399751580330, item_id => 33);
SELECT flashsale.create_item(1, unit_price => 0, max_per_user => 2147483647, item_id => 34);
SELECT flashsale.create_item(1, reservation_ttl => '1 second', item_id => 35);
SELECT flashsale.create_item(1, reservation_ttl => '7 days', item_id => 36);
SELECT flashsale.create_item(1, reservation_ttl => '168 hours', item_id => 37);
SELECT flashsale.create_item(1, name => repeat('é', 127) || 'x', item_id => 38);
SELECT flashsale.create_item(1, name => 'x', starts_at => '2026-01-01', ends_at => '2026-01-01 00:00:00.000001', item_id => 39);
-- A window may be open at one side.
SELECT flashsale.create_item(1, starts_at => '2026-01-01', item_id => 40),
       flashsale.create_item(1, ends_at => '2026-01-01', item_id => 41);

-- restock_item adds and removes units, and records a movement each time.
SELECT flashsale.create_item(10, item_id => 50);
SELECT t.answer(flashsale.restock_item(50, 5, 'second lorry'));
SELECT t.answer(flashsale.restock_item(item_id => 50, delta => -3));
SELECT t.answer(flashsale.restock_item(50, 1::smallint, NULL));
SELECT delta, reason, order_id, moved_by = session_user AS by_me FROM flashsale.stock_movements
WHERE item_id = 50 AND movement_id > (SELECT min(movement_id) FROM flashsale.stock_movements WHERE item_id = 50)
ORDER BY movement_id;
-- A key makes it once, for this item; another delta is refused, and a refused movement leaves its key unused.
SELECT t.answer(flashsale.restock_item(50, 4, 'third lorry', 'note 3'));
SELECT t.answer(flashsale.restock_item(50, 4, 'the same lorry', 'note 3'));
SELECT t.answer(flashsale.restock_item(50, -4, idempotency_key => 'back'));
SELECT t.answer(flashsale.restock_item(50, 4, idempotency_key => 'note 3'));
SELECT t.answer(flashsale.restock_item(50, -4, idempotency_key => 'back'));
SELECT t.answer(flashsale.restock_item(50, 5, 'third lorry', 'note 3'));
SELECT t.answer(flashsale.restock_item(50, -4, 'third lorry', 'note 3'));
SELECT t.answer(flashsale.restock_item(41, 4, 'third lorry', 'note 3'));
SELECT t.answer(flashsale.restock_item(50, -100, idempotency_key => 'too many'));
SELECT t.answer(flashsale.restock_item(50, -1, idempotency_key => 'too many'));
SELECT t.answer(flashsale.restock_item(50, 1, idempotency_key => repeat('x', 255))) ->> 'replayed';
SELECT t.error('SELECT flashsale.restock_item(50, 1, idempotency_key => repeat(''x'', 256))');
SELECT t.error('SELECT flashsale.restock_item(50, 1, idempotency_key => '''')');
SELECT item_id, delta, reason, left(idempotency_key, 10), stock_after, inventory_after FROM flashsale.stock_movements
WHERE idempotency_key IS NOT NULL ORDER BY movement_id;
-- Only free units can be removed: all of them, but not one more.
SELECT flashsale.purchase_item(50, 'alice', 3) ->> 'success';
SELECT t.answer(flashsale.restock_item(50, -11));
SELECT t.answer(flashsale.restock_item(50, -10));
SELECT t.answer(flashsale.restock_item(50, -1));
SELECT t.answer(flashsale.restock_item(50, -9223372036854775808));
SELECT t.stock(50);
-- To the limit of the stock and of its price, and not past it.
SELECT t.answer(flashsale.restock_item(20, 9007199254740991));
SELECT t.error('SELECT flashsale.restock_item(20, 1)');
SELECT t.error('SELECT flashsale.restock_item(20, 9223372036854775807)');
SELECT t.answer(flashsale.restock_item(20, -9007199254740991));
SELECT t.error('SELECT flashsale.restock_item(33, 1)');
SELECT t.answer(flashsale.restock_item(32, 1));
SELECT t.error('SELECT flashsale.restock_item(32, 1)');
-- Unknown items.
SELECT t.answer(flashsale.restock_item(id, 1))
FROM unnest('{0,-1,12345,9223372036854775807,-9223372036854775808}'::bigint[]) AS id;

-- pause_item and resume_item are idempotent.
SELECT t.answer(flashsale.pause_item(50));
SELECT t.answer(flashsale.pause_item(item_id => 50));
SELECT paused FROM flashsale.items WHERE item_id = 50;
SELECT t.answer(flashsale.resume_item(50));
SELECT t.answer(flashsale.resume_item(item_id => 50));
SELECT paused FROM flashsale.items WHERE item_id = 50;
SELECT t.answer(flashsale.pause_item(id)) FROM unnest('{0,-1,12345,9223372036854775807}'::bigint[]) AS id;
SELECT t.answer(flashsale.resume_item(id)) FROM unnest('{0,-1,12345,9223372036854775807}'::bigint[]) AS id;

-- Each change of what a buyer was shown raises the version: by how much.
SELECT flashsale.create_item(10, unit_price => 5, currency => 'EUR', item_id => 60);
CREATE FUNCTION pg_temp.raised(change text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE before bigint := (SELECT version FROM flashsale.items WHERE item_id = 60);
BEGIN
    EXECUTE change;
    RETURN (SELECT version FROM flashsale.items WHERE item_id = 60) - before;
END $$;
SELECT change || ' -> ' || pg_temp.raised(change) FROM (VALUES
    ('SELECT flashsale.purchase_item(60, ''alice'', 2)'),
    ('SELECT flashsale.purchase_item(60, ''bob'')'),
    ('SELECT flashsale.purchase_item(60, ''carol'', 9)'),
    ('SELECT flashsale.begin_payment(t.id(''alice/2''))'),
    ('SELECT flashsale.confirm_order(t.id(''alice/2''))'),
    ('SELECT flashsale.refund_order(t.id(''alice/2''))'),
    ('SELECT flashsale.cancel_order(t.id(''bob''))'),
    ('SELECT flashsale.restock_item(60, 1)'),
    ('SELECT flashsale.restock_item(60, -100)'),
    ('SELECT flashsale.pause_item(60)'),
    ('SELECT flashsale.resume_item(60)'),
    ('UPDATE flashsale.items SET unit_price = 6 WHERE item_id = 60'),
    ('UPDATE flashsale.items SET currency = ''USD'' WHERE item_id = 60'),
    ('UPDATE flashsale.items SET max_per_user = 9 WHERE item_id = 60'),
    ('UPDATE flashsale.items SET starts_at = ''2026-01-01'' WHERE item_id = 60'),
    ('UPDATE flashsale.items SET ends_at = ''2126-01-01'' WHERE item_id = 60'),
    ('UPDATE flashsale.items SET reservation_ttl = ''1 hour'' WHERE item_id = 60'),
    ('UPDATE flashsale.items SET paused = true, unit_price = 7 WHERE item_id = 60'),
    ('UPDATE flashsale.items SET name = ''Console'' WHERE item_id = 60')) AS v (change);

-- An item with orders, dead ones included, is not deleted, nor are all items truncated.
SELECT flashsale.resume_item(60) ->> 'success', flashsale.purchase_item(60, 'dora', strategy => 'nowait') ->> 'success';
SELECT t.error('DELETE FROM flashsale.items WHERE item_id = 60');
SELECT flashsale.cancel_order(order_id) ->> 'success' FROM flashsale.orders WHERE item_id = 60 AND status = 'reserved';
SELECT t.error('DELETE FROM flashsale.items WHERE item_id = 60');
SELECT t.error('TRUNCATE flashsale.items');
SELECT t.error('TRUNCATE flashsale.items, flashsale.orders');
-- One without orders may be deleted. No id may change: orders and movements would belong to another item.
DELETE FROM flashsale.items WHERE item_id = 7;
SELECT t.error('UPDATE flashsale.items SET item_id = 61 WHERE item_id = 60');
SELECT t.error('UPDATE flashsale.items SET item_id = 7 WHERE item_id = 4');
SELECT t.error('UPDATE flashsale.items SET item_id = 60, name = ''Lamp'' WHERE item_id = 60');
SELECT item_id FROM flashsale.items WHERE item_id IN (4, 7, 60, 61) ORDER BY item_id;
BEGIN;
TRUNCATE flashsale.orders, flashsale.payments;
TRUNCATE flashsale.items;
ROLLBACK;
-- Payments are not left for new orders that may get the old ids.
BEGIN;
SELECT flashsale.confirm_order(99, 'charge of an unknown order') ->> 'reason';
SELECT t.error('TRUNCATE flashsale.orders');
TRUNCATE flashsale.orders, flashsale.payments;
TRUNCATE flashsale.orders;
ROLLBACK;
SELECT * FROM flashsale.audit();
-- Months and days of either sign: the span that is checked is the span that is kept.
CALL t.reset();
SELECT flashsale.create_item(5, reservation_ttl => '-1 year 361 days', item_id => 1);
SELECT flashsale.create_item(5, reservation_ttl => '1 year -354 days', item_id => 2);
SELECT item_id, reservation_ttl FROM flashsale.items ORDER BY item_id;
