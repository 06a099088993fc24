-- Who would be refused for want of units expires the item's stale reservations, and buys.
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();

-- The oldest stale reservation gives its unit; those that are not stale, or in paying, give none.
SELECT flashsale.create_item(4, item_id => 1);
SELECT flashsale.purchase_item(1, name) ->> 'success' FROM unnest('{alice,bob,carol,dave}'::text[]) AS name;
SELECT flashsale.begin_payment(t.id('carol')) ->> 'status';
CALL t.make_stale('carol');
CALL t.make_stale('dave');
UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 hour' WHERE user_id = 'alice';
SELECT t.answer(flashsale.purchase_item(1, 'erin'));
SELECT * FROM t.orders();
SELECT closed_by = session_user, closed_at >= created_at FROM flashsale.orders WHERE user_id = 'alice';
SELECT flashsale.purchase_item(1, 'frank') ->> 'remaining_inventory';
SELECT t.answer(flashsale.purchase_item(1, 'grace'));
SELECT * FROM t.orders();
SELECT t.stock(1);

-- As many as are needed, and their surplus is on sale.
SELECT flashsale.create_item(6, item_id => 2);
SELECT flashsale.purchase_item(2, 'alice', 2) ->> 'success', flashsale.purchase_item(2, 'bob', 3) ->> 'success';
CALL t.make_stale('alice/2');
CALL t.make_stale('bob/2');
SELECT t.answer(flashsale.purchase_item(2, 'heidi', 2));
SELECT name, status FROM t.orders() WHERE item_id = 2;
SELECT t.answer(flashsale.purchase_item(2, 'ivan', 2));
SELECT name, status FROM t.orders() WHERE item_id = 2;
SELECT t.stock(2);
-- What is not enough stays as it is, and is told.
SELECT flashsale.create_item(4, item_id => 3);
SELECT flashsale.purchase_item(3, 'alice', 2) ->> 'success', flashsale.purchase_item(3, 'bob') ->> 'success';
CALL t.make_stale('alice/3');
SELECT t.answer(flashsale.purchase_item(3, 'judy', 4));
SELECT name, status FROM t.orders() WHERE item_id = 3;
SELECT flashsale.purchase_item(3, 'judy', 3) ->> 'remaining_inventory';
SELECT t.stock(3);

-- A key finds its order, stale or not, and buys no second time. An expired order stays expired.
SELECT flashsale.create_item(1, item_id => 4);
SELECT flashsale.purchase_item(4, 'kim', 1, 'key') ->> 'success';
CALL t.make_stale('kim');
SELECT t.answer(flashsale.purchase_item(4, 'kim', 1, 'key'));
SELECT flashsale.purchase_item(4, 'lea', 1, 'key') ->> 'success';
SELECT t.answer(flashsale.purchase_item(4, 'kim', 1, 'key'));
SELECT t.answer(flashsale.purchase_item(4, 'lea', 1, 'key'));
SELECT t.stock(4);

-- The other reasons for a refusal come before and after, as if the units were free.
SELECT flashsale.create_item(2, max_per_user => 2, item_id => 5);
SELECT flashsale.purchase_item(5, 'mia') ->> 'success', flashsale.purchase_item(5, 'nina') ->> 'success';
CALL t.make_stale('mia');
SELECT flashsale.pause_item(5) ->> 'paused';
SELECT t.answer(flashsale.purchase_item(5, 'olga'));
SELECT flashsale.resume_item(5) ->> 'paused';
SELECT t.answer(flashsale.purchase_item(5, 'nina', 2));
UPDATE flashsale.items SET ends_at = clock_timestamp() WHERE item_id = 5;
SELECT flashsale.purchase_item(5, 'olga') ->> 'reason';
UPDATE flashsale.items SET ends_at = NULL WHERE item_id = 5;
SELECT * FROM t.orders() WHERE item_id = 5;
SELECT flashsale.purchase_item(5, 'olga') ->> 'success';

-- A batch expires what all of its requests need.
SELECT flashsale.create_item(3, item_id => 6), flashsale.create_item(1, item_id => 7);
SELECT flashsale.purchase_item(6, name) ->> 'success' FROM unnest('{alice,bob,carol}'::text[]) AS name;
SELECT flashsale.purchase_item(7, 'alice') ->> 'success';
UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 hour' WHERE item_id IN (6, 7) AND user_id <> 'bob';
SELECT t.answer(answer) FROM jsonb_array_elements(flashsale.purchase_batch('[
    {"item_id": 6, "user_id": "pam"}, {"item_id": 7, "user_id": "pam"}, {"item_id": 6, "user_id": "quinn", "quantity": 2},
    {"item_id": 6, "user_id": "rosa"}, {"item_id": 6, "user_id": "sam"}]')) AS answer;
SELECT name, item_id, status, units_held FROM t.orders() WHERE item_id IN (6, 7);
SELECT t.stock(6), t.stock(7);

-- A late confirm takes the units of other stale reservations, if these are enough.
SELECT flashsale.create_item(3, item_id => 8);
SELECT flashsale.purchase_item(8, 'tina', 2) ->> 'success';
CALL t.make_stale('tina');
SELECT flashsale.reconcile_stale_reservations() ->> 'restored';
SELECT flashsale.purchase_item(8, 'uma') ->> 'success', flashsale.purchase_item(8, 'vera', 2) ->> 'success';
SELECT t.answer(flashsale.confirm_order(t.id('tina'), 'pay-tina-1'));
CALL t.make_stale('vera');
SELECT flashsale.create_item(3, item_id => 9);
SELECT flashsale.purchase_item(9, 'tina', 2) ->> 'success';
CALL t.make_stale('tina/2');
SELECT flashsale.reconcile_stale_reservations() ->> 'restored';
SELECT flashsale.purchase_item(9, 'uma') ->> 'success', flashsale.purchase_item(9, 'vera', 2) ->> 'success';
CALL t.make_stale('vera/2');
SELECT t.answer(flashsale.confirm_order(t.id('tina/2'), 'pay-tina-2'));
SELECT name, item_id, status, units_held FROM t.orders() WHERE item_id IN (8, 9);
SELECT t.stock(9);

-- A restock that removes units takes those of stale reservations too, if with these there are enough.
SELECT flashsale.create_item(5, item_id => 11);
SELECT flashsale.purchase_item(11, name, 2) ->> 'success' FROM unnest('{alice,bob}'::text[]) AS name;
SELECT t.answer(flashsale.restock_item(11, -2));
UPDATE flashsale.orders SET expires_at = clock_timestamp() WHERE item_id = 11 AND user_id = 'alice';
SELECT t.answer(flashsale.restock_item(11, -4));
SELECT t.answer(flashsale.restock_item(11, -6));
SELECT name, status FROM t.orders() WHERE item_id = 11;
SELECT t.answer(flashsale.restock_item(11, -2, idempotency_key => 'back'));
SELECT t.answer(flashsale.restock_item(11, -2, idempotency_key => 'back'));
SELECT name, status FROM t.orders() WHERE item_id = 11;
SELECT t.stock(11);

-- An order that fails to expire is left alone; others give their units.
CREATE FUNCTION t.keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status = 'expired' AND NEW.user_id = 'kept' THEN RAISE 'kept'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keep BEFORE UPDATE ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.keep();
SELECT flashsale.create_item(4, item_id => 10);
SELECT flashsale.purchase_item(10, name) ->> 'success' FROM unnest('{kept,wanda,kept,xena}'::text[]) AS name;
UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 hour' + order_id * interval '1 s' WHERE item_id = 10;
SELECT t.answer(flashsale.purchase_item(10, 'yuri', 2));
SELECT t.answer(flashsale.purchase_item(10, 'zoe'));
SELECT * FROM t.orders() WHERE item_id = 10;
DROP TRIGGER keep ON flashsale.orders;
DROP FUNCTION t.keep();
SELECT * FROM flashsale.audit();
