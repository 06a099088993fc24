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

-- Nor does it fail a purchase that a trigger suppresses the expiry, whatever the error that it raises.
CREATE SEQUENCE t.tries;
CREATE OR REPLACE FUNCTION t.keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> 'expired' OR NEW.user_id NOT LIKE 'kept%' THEN RETURN NEW; END IF;
    PERFORM nextval('t.tries');
    IF TG_ARGV[0] = 'suppress' THEN RETURN NULL; END IF;
    RAISE 'kept' USING ERRCODE = TG_ARGV[0];
END $$;
CREATE FUNCTION t.buy_despite(how text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE bought jsonb;
BEGIN
    EXECUTE format('CREATE TRIGGER keep BEFORE UPDATE ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.keep(%L)', how);
    BEGIN
        bought := flashsale.purchase_item(17, 'buyer of ' || how, strategy => 'nowait');
        RETURN NEXT how || ': ' || coalesce(bought ->> 'reason', bought ->> 'success');
    EXCEPTION WHEN OTHERS THEN
        RETURN NEXT how || ': ' || SQLSTATE || ' ' || SQLERRM;
    END;
    DROP TRIGGER keep ON flashsale.orders;
END $$;
SELECT flashsale.create_item(11, item_id => 17);
SELECT flashsale.purchase_item(17, 'kept') ->> 'success';
SELECT flashsale.purchase_item(17, 'free') ->> 'success' FROM generate_series(1, 10);
UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 hour' + order_id * interval '1 s' WHERE item_id = 17;
SELECT t.buy_despite(how) FROM unnest('{suppress,23514,22012,42501,27000,P0001,SH001,55P03,40P01}'::text[]) AS how;
SELECT user_id, status, count(*) FROM flashsale.orders WHERE item_id = 17 GROUP BY user_id, status ORDER BY user_id, status;
-- An error of the server is not one of an order.
SELECT t.buy_despite(how) FROM unnest('{53100,53200,54001,58030,XX001,40001}'::text[]) AS how;
SELECT t.buy_despite('suppress');
-- Nothing else is left: who wants a lock may expire later.
SELECT t.buy_despite(how) FROM unnest('{suppress,23514,55P03,40P01}'::text[]) AS how;
DROP FUNCTION t.buy_despite(text);

-- If every order fails to expire, a purchase tries some and gives up.
CREATE TRIGGER keep BEFORE UPDATE ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.keep('23514');
SELECT flashsale.create_item(200, item_id => 12);
SELECT count(flashsale.purchase_item(12, 'kept ' || n)) FROM generate_series(1, 200) AS n;
UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 hour' WHERE item_id = 12;
SELECT setval('t.tries', 1) AS tries;
SELECT t.answer(flashsale.purchase_item(12, 'yuri'));
SELECT last_value <= 20 AS few FROM t.tries;
DROP TRIGGER keep ON flashsale.orders;
CREATE TRIGGER keep BEFORE UPDATE ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.keep('suppress');
SELECT setval('t.tries', 1) AS tries;
SELECT t.answer(flashsale.purchase_item(12, 'yuri', 200));
SELECT last_value <= 500 AS few FROM t.tries;
SELECT status, count(*) FROM flashsale.orders WHERE item_id = 12 GROUP BY status;
DROP TRIGGER keep ON flashsale.orders;
SELECT t.answer(flashsale.purchase_item(12, 'yuri', 200));
-- One order at fault among many does not keep the others' units.
CREATE TRIGGER keep BEFORE UPDATE ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.keep('suppress');
SELECT flashsale.create_item(200, item_id => 13);
SELECT count(flashsale.purchase_item(13, CASE n WHEN 77 THEN 'kept' ELSE 'free' END)) FROM generate_series(1, 200) AS n;
UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 hour' + order_id * interval '1 s' WHERE item_id = 13;
SELECT t.answer(flashsale.purchase_item(13, 'yuri', 200));
SELECT t.answer(flashsale.purchase_item(13, 'yuri', 199));
SELECT user_id, status, count(*) FROM flashsale.orders WHERE item_id = 13 GROUP BY user_id, status ORDER BY user_id;
DROP TRIGGER keep ON flashsale.orders;
DROP SEQUENCE t.tries;
DROP FUNCTION t.keep();

-- What nobody gets stays reserved, although others in the batch succeed.
SELECT flashsale.create_item(3, item_id => 14);
SELECT flashsale.purchase_item(14, 'alice') ->> 'success' FROM generate_series(1, 2);
UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 hour' WHERE item_id = 14;
SELECT t.answer(answer) FROM jsonb_array_elements(flashsale.purchase_batch('[
    {"item_id": 14, "user_id": "pam", "quantity": 5}, {"item_id": 14, "user_id": "quinn"}]')) AS answer;
SELECT user_id, status FROM flashsale.orders WHERE item_id = 14 ORDER BY order_id;
-- Of two stale units one is sold, and the other one is told.
SELECT t.answer(answer) FROM jsonb_array_elements(flashsale.purchase_batch('[
    {"item_id": 14, "user_id": "pam", "quantity": 5}, {"item_id": 14, "user_id": "quinn"}]')) AS answer;
SELECT user_id, status FROM flashsale.orders WHERE item_id = 14 ORDER BY order_id;
-- Nor does a late confirm expire what is not enough for it.
SELECT flashsale.create_item(3, item_id => 15);
SELECT flashsale.purchase_item(15, 'late', 3) ->> 'success';
CALL t.make_stale('late');
SELECT flashsale.reconcile_stale_reservations() ->> 'restored';
SELECT flashsale.purchase_item(15, 'early') ->> 'success' FROM generate_series(1, 3);
UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 hour' WHERE order_id IN
    (SELECT order_id FROM flashsale.orders WHERE item_id = 15 AND user_id = 'early' ORDER BY order_id LIMIT 2);
SELECT t.answer(flashsale.confirm_order(t.id('late'), 'pay-late'));
SELECT user_id, status FROM flashsale.orders WHERE item_id = 15 ORDER BY order_id;
-- A user's own stale reservation counts for the limit until it is expired or cancelled: it can still be paid.
SELECT flashsale.create_item(2, max_per_user => 1, item_id => 18);
SELECT flashsale.purchase_item(18, 'own') ->> 'success';
CALL t.make_stale('own');
SELECT t.answer(flashsale.purchase_item(18, 'own'));
SELECT flashsale.cancel_order(t.id('own')) ->> 'success', flashsale.purchase_item(18, 'own') ->> 'success';
-- A damaged ref code hinders neither the expiry nor the purchase.
SELECT flashsale.create_item(1, item_id => 16);
SELECT flashsale.purchase_item(16, 'damaged') ->> 'success';
CALL t.make_stale('damaged');
UPDATE flashsale.orders SET ref_code = 'damaged' WHERE item_id = 16;
SELECT flashsale.purchase_item(16, 'yuri') ->> 'success';
SELECT user_id, status FROM flashsale.orders WHERE item_id = 16 ORDER BY order_id;
UPDATE flashsale.orders SET ref_code = flashsale.new_ref_code() WHERE user_id = 'damaged';
SELECT * FROM flashsale.audit();
