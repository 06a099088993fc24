-- reconcile_stale_reservations: what it expires, how many at a time, what it skips, what it counts.
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();

-- Nothing to do.
SELECT t.answer(flashsale.reconcile_stale_reservations());
SELECT t.answer(flashsale.reconcile_stale_reservations('0'));

-- Orders past expires_at, of several items; fresh ones stay.
SELECT flashsale.create_item(10, item_id => 1), flashsale.create_item(10, item_id => 2),
       flashsale.create_item(10, item_id => 3);
SELECT count(*) FROM (VALUES (1, 'alice', 1), (1, 'bob', 2), (2, 'carol', 3), (2, 'dave', 4), (3, 'erin', 5)) AS v (item, who, units),
    flashsale.purchase_item(item, who, units) AS answer WHERE answer -> 'success' = 'true';
SELECT t.answer(flashsale.reconcile_stale_reservations());
CALL t.make_stale('alice');
CALL t.make_stale('carol');
CALL t.make_stale('dave');
SELECT t.answer(flashsale.reconcile_stale_reservations());
SELECT * FROM t.orders();
SELECT t.stock(1), t.stock(2), t.stock(3);
SELECT closed_at >= expires_at, closed_by = session_user, close_reason IS NOT NULL
FROM flashsale.orders WHERE status = 'expired';
-- Once only.
SELECT t.answer(flashsale.reconcile_stale_reservations());
SELECT t.stock(1), t.stock(2), t.stock(3);

-- Only reserved ones: not in paying, however long past its deadline, not confirmed, not closed.
SELECT count(*) FROM unnest('{frank,gina,hal,ivy}'::text[]) AS who, flashsale.purchase_item(1, who) AS answer;
SELECT flashsale.begin_payment(t.id('frank'), '1 microsecond') ->> 'status',
       flashsale.begin_payment(t.id('gina')) ->> 'status';
SELECT flashsale.confirm_order(t.id('hal'), 'pay-hal') ->> 'status', flashsale.cancel_order(t.id('ivy')) ->> 'status';
UPDATE flashsale.orders SET expires_at = '2000-01-01', created_at = '2000-01-01' WHERE user_id IN ('frank', 'gina', 'hal', 'ivy');
SELECT t.answer(flashsale.reconcile_stale_reservations());
SELECT t.answer(flashsale.reconcile_stale_reservations('1 hour'));
SELECT * FROM t.orders() WHERE name IN ('frank', 'gina', 'hal', 'ivy');

-- max_orders at a time, the oldest first; more says whether to call again.
CALL t.reset();
SELECT flashsale.create_item(100, item_id => 1);
SELECT count(*) FROM generate_series(1, 7) AS u,
       flashsale.purchase_item(1, u) AS answer WHERE answer -> 'success' = 'true';
UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 hour' + user_id::int * interval '1 second';
SELECT t.answer(flashsale.reconcile_stale_reservations(max_orders => 3));
SELECT user_id, status FROM flashsale.orders ORDER BY order_id;
SELECT t.answer(flashsale.reconcile_stale_reservations(NULL, 1));
SELECT t.answer(flashsale.reconcile_stale_reservations(NULL, 100000));
SELECT t.answer(flashsale.reconcile_stale_reservations(NULL, 1));
SELECT t.stock(1);
-- Exactly as many as there are: nothing is left.
SELECT flashsale.purchase_item(1, 'alice') ->> 'success', flashsale.purchase_item(1, 'bob') ->> 'success';
UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 hour' WHERE status = 'reserved';
SELECT t.answer(flashsale.reconcile_stale_reservations(max_orders => 2));
-- 1,000 by default.
SELECT flashsale.create_item(2000, item_id => 2);
DO $$ BEGIN FOR u IN 1 .. 1002 LOOP PERFORM flashsale.purchase_item(2, u); COMMIT; END LOOP; END $$;
UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 hour' WHERE status = 'reserved';
SELECT t.answer(flashsale.reconcile_stale_reservations());
SELECT t.answer(flashsale.reconcile_stale_reservations());
SELECT t.stock(2);

-- older_than looks at the age of the reservation instead of at expires_at.
CALL t.reset();
SELECT flashsale.create_item(10, item_id => 1);
SELECT count(*) FROM unnest('{alice,bob,carol}'::text[]) AS who, flashsale.purchase_item(1, who, 2) AS answer;
CALL t.make_stale('alice');
UPDATE flashsale.orders SET created_at = created_at - interval '2 hours' WHERE user_id = 'bob';
SELECT t.answer(flashsale.reconcile_stale_reservations('3 hours'));
SELECT t.answer(flashsale.reconcile_stale_reservations(older_than => '1 hour'));
SELECT * FROM t.orders();
SELECT t.answer(flashsale.reconcile_stale_reservations(older_than => '170000000 years'));
SELECT t.answer(flashsale.reconcile_stale_reservations(older_than => '1 month'));
SELECT t.answer(flashsale.reconcile_stale_reservations(older_than => '0'));
SELECT * FROM t.orders();
SELECT t.stock(1);

-- The units are sold again, and the expired order is reinstated only while there are any.
SELECT flashsale.purchase_item(1, 'dave', 9) ->> 'success';
SELECT flashsale.confirm_order(t.id('alice'), 'pay-alice') ->> 'reason';
SELECT flashsale.cancel_order(t.id('dave')) ->> 'restored';
SELECT flashsale.confirm_order(t.id('bob'), 'pay-bob') ->> 'reinstated';
SELECT t.answer(flashsale.reconcile_stale_reservations('0'));
SELECT t.stock(1);

-- A paused item and one whose sale is over are reconciled too.
SELECT flashsale.create_item(5, item_id => 2), flashsale.purchase_item(2, 'erin', strategy => 'nowait') ->> 'success',
       flashsale.pause_item(2) ->> 'paused';
UPDATE flashsale.items SET ends_at = now() WHERE item_id = 2;
CALL t.make_stale('erin');
SELECT t.answer(flashsale.reconcile_stale_reservations());
SELECT t.stock(2);
SELECT * FROM flashsale.audit();

-- Orders that do not expire, because of a trigger that raises or suppresses: they are passed over and named,
-- and hold up no other, older or younger, of their item or another.
CALL t.reset();
SELECT flashsale.create_item(100, item_id => 1), flashsale.create_item(100, item_id => 2);
CREATE FUNCTION t.stay() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF OLD.user_id LIKE 'stayer%' THEN RAISE 'they stay'; END IF;
    IF OLD.user_id LIKE 'quiet%' THEN RETURN NULL; END IF;
    RETURN NEW;
END $$;
SELECT count(*) FROM generate_series(1, 40) AS u, flashsale.purchase_item(1 + u % 2, CASE u WHEN 7 THEN 'stayer' WHEN 20 THEN 'quiet' ELSE u::text END) AS answer
WHERE answer -> 'success' = 'true';
UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 hour' + order_id * interval '1 second';
CREATE TRIGGER stay BEFORE UPDATE OF status ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.stay();
\set VERBOSITY terse
SELECT t.answer(flashsale.reconcile_stale_reservations(max_orders => 30));
SELECT t.answer(flashsale.reconcile_stale_reservations());
\set VERBOSITY default
SELECT user_id, status FROM flashsale.orders WHERE status <> 'expired' ORDER BY order_id;
SELECT t.stock(1), t.stock(2);
-- Only the first ten are named.
SELECT count(*) FROM generate_series(1, 12) AS u, flashsale.purchase_item(1, 'stayer' || u) AS answer WHERE answer -> 'success' = 'true';
UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 hour' + order_id * interval '1 second'
WHERE user_id LIKE 'stayer%' AND status = 'reserved';
\set VERBOSITY terse
SELECT t.answer(flashsale.reconcile_stale_reservations());
\set VERBOSITY default
DROP TRIGGER stay ON flashsale.orders;
SELECT t.answer(flashsale.reconcile_stale_reservations());
DROP FUNCTION t.stay();
SELECT t.stock(1), t.stock(2);
SELECT * FROM flashsale.audit();

-- An order whose trigger wants a row that another transaction holds is passed over, too. Whether the trigger waits or
-- not, its neighbours expire, and so does it once the row is free.
CALL t.reset();
CREATE TABLE t.counts (user_id text PRIMARY KEY, n bigint NOT NULL DEFAULT 0);
INSERT INTO t.counts VALUES ('nowait'), ('waits');
CREATE FUNCTION t.count() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF OLD.user_id = 'nowait' THEN PERFORM FROM t.counts c WHERE c.user_id = OLD.user_id FOR UPDATE NOWAIT; END IF;
    UPDATE t.counts SET n = n + 1 WHERE user_id = OLD.user_id;
    RETURN NEW;
END $$;
SELECT flashsale.create_item(100, item_id => 1), flashsale.create_item(100, item_id => 2);
SELECT count(*) FROM generate_series(1, 40) AS u, flashsale.purchase_item(1 + u % 2, CASE u WHEN 7 THEN 'nowait' WHEN 20 THEN 'waits' ELSE u::text END) AS answer
WHERE answer -> 'success' = 'true';
UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 hour' + order_id * interval '1 second';
CREATE TRIGGER count BEFORE UPDATE OF status ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.count();
BEGIN;
SELECT user_id FROM t.counts ORDER BY user_id FOR UPDATE;
PREPARE TRANSACTION 'other';
SET flashsale.lock_wait = '200ms';
\set VERBOSITY terse
SELECT t.answer(flashsale.reconcile_stale_reservations());
\set VERBOSITY default
SELECT user_id, status FROM flashsale.orders WHERE status <> 'expired' ORDER BY order_id;
COMMIT PREPARED 'other';
SELECT t.answer(flashsale.reconcile_stale_reservations());
SELECT * FROM t.counts ORDER BY user_id;
-- Where every order's trigger waits in vain, the waits together are limited, not each.
SELECT count(flashsale.purchase_item(1, 'waits')) FROM generate_series(1, 100);
UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 hour' WHERE status = 'reserved';
BEGIN;
SELECT user_id FROM t.counts WHERE user_id = 'waits' FOR UPDATE;
PREPARE TRANSACTION 'other';
SET flashsale.lock_wait = '500ms';
SET client_min_messages = error;
SELECT clock_timestamp() AS begun \gset
SELECT t.answer(flashsale.reconcile_stale_reservations());
SELECT clock_timestamp() - :'begun' < interval '25s' AS limited;
RESET client_min_messages;
RESET flashsale.lock_wait;
ROLLBACK PREPARED 'other';
DROP TRIGGER count ON flashsale.orders;
SELECT t.answer(flashsale.reconcile_stale_reservations());
DROP FUNCTION t.count();
DROP TABLE t.counts;
SELECT * FROM flashsale.audit();
