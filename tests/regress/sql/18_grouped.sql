-- Strategy grouped: the seller's answers, and the callers that it refuses; the gate and the counters.
CALL t.reset();
SELECT flashsale.stats_reset();
SELECT flashsale.create_item(3, unit_price => 100, currency => 'EUR', max_per_user => 2, item_id => 1),
       flashsale.create_item(5, item_id => 2);
SET flashsale.strategy = 'grouped';

-- Sold, replayed, refused.
SELECT t.answer(flashsale.purchase_item(1, 'alice', 2, 'k'));
SELECT t.answer(flashsale.purchase_item(1, 'alice', 2, 'k'));
SELECT t.answer(flashsale.purchase_item(1, 'alice', 1, 'k'));
SELECT t.answer(flashsale.purchase_item(1, 'alice'));
SELECT t.answer(flashsale.purchase_item(1, 'bob', 2));
SELECT t.answer(flashsale.purchase_item(1, 42));
SELECT t.answer(flashsale.purchase_item(1, 'carol'));
SELECT t.answer(flashsale.purchase_item(9, 'carol'));
-- At the gate: a key still stands for its order.
SELECT t.answer(flashsale.purchase_item(1, 'carol'));
SELECT t.answer(flashsale.purchase_item(1, 'alice', 2, 'k'));
SELECT t.answer(flashsale.purchase_item(1, 'carol', strategy => 'nowait'));
SELECT name, value > 0 AS counted FROM flashsale.stats WHERE subject = 'gate' ORDER BY name;

-- Every way to return a unit opens it at once: cancel, restock, expiry, refund.
SELECT flashsale.cancel_order(t.id('42'), 'changed my mind') ->> 'restored', flashsale.purchase_item(1, 'dave', strategy => 'nowait') ->> 'success';
SELECT flashsale.purchase_item(1, 'erin') ->> 'reason', flashsale.purchase_item(1, 'erin') ->> 'reason';
SELECT flashsale.restock_item(1, 1) ->> 'success';
SELECT flashsale.purchase_item(1, 'erin') ->> 'success';
SELECT flashsale.purchase_item(1, 'frank') ->> 'reason', flashsale.purchase_item(1, 'frank') ->> 'reason';
CALL t.make_stale('erin');
SELECT flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT flashsale.purchase_item(1, 'frank') ->> 'success';
SELECT flashsale.confirm_order(t.id('frank')) ->> 'success';
SELECT flashsale.purchase_item(1, 'gina') ->> 'reason', flashsale.purchase_item(1, 'gina') ->> 'reason';
SELECT flashsale.refund_order(t.id('frank')) ->> 'success';
SELECT flashsale.purchase_item(1, 'gina') ->> 'success';
-- A restock that is rolled back sells nothing.
SELECT flashsale.purchase_item(1, 'hal') ->> 'reason';
BEGIN;
SELECT flashsale.restock_item(1, 1) ->> 'success';
ROLLBACK;
SELECT flashsale.purchase_item(1, 'hal') ->> 'reason';
-- A transaction sees a unit that it has returned itself, and does not note its own last unit before it commits.
BEGIN;
SELECT flashsale.cancel_order(t.id('gina')) ->> 'restored';
SELECT flashsale.purchase_item(1, 'hal', strategy => 'nowait') ->> 'success';
SELECT flashsale.purchase_item(1, 'ivy', strategy => 'nowait') ->> 'reason';
ROLLBACK;
SELECT flashsale.cancel_order(t.id('gina')) ->> 'restored';
BEGIN;
SELECT flashsale.purchase_item(1, 'hal', strategy => 'nowait') ->> 'success';
SELECT flashsale.purchase_item(1, 'ivy', strategy => 'nowait') ->> 'reason';
ROLLBACK;
SELECT flashsale.purchase_item(1, 'ivy') ->> 'success';

-- A cancel goes through the seller, or, if it cannot, is made in the caller's transaction.
SELECT t.answer(flashsale.cancel_order(t.id('ivy'), 'too dear'));
SELECT t.answer(flashsale.cancel_order(t.id('ivy'), 'again'));
SELECT t.answer(flashsale.cancel_order(999999));
SELECT status, closed_by = session_user AS by_me, close_reason FROM flashsale.orders WHERE user_id = 'ivy';
SELECT flashsale.purchase_item(2, 'kim') ->> 'success';
SELECT flashsale.confirm_order(t.id('kim')) ->> 'success';
SELECT t.answer(flashsale.cancel_order(t.id('kim')));
BEGIN;
SELECT flashsale.cancel_order(t.id('dave')) ->> 'restored';
ROLLBACK;

-- A grouped purchase commits on its own, so it is refused within a transaction.
BEGIN;
SELECT flashsale.purchase_item(2, 'leo');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT flashsale.purchase_item(2, 'leo');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT flashsale.purchase_item(2, 'leo');
ROLLBACK;
SET default_transaction_isolation = 'repeatable read';
SELECT flashsale.purchase_item(2, 'leo');
SET default_transaction_isolation = 'serializable';
SELECT flashsale.purchase_item(2, 'leo');
RESET default_transaction_isolation;
SELECT flashsale.restock_item(2, 1), flashsale.purchase_item(2, 'leo');
SELECT t.error('SELECT flashsale.purchase_item(2, ''leo'')');
SELECT t.stock(2);

-- The reservation lasts as long as the caller's setting.
SET flashsale.reservation_ttl = '2h';
SELECT flashsale.purchase_item(2, 'mia') ->> 'success';
SELECT expires_at - created_at FROM flashsale.orders WHERE user_id = 'mia';
RESET flashsale.reservation_ttl;

-- A shop's trigger runs as the owner, and its error reaches the buyer that caused it.
CREATE FUNCTION t.no_noah() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF NEW.user_id = 'noah' THEN
        RAISE EXCEPTION 'not noah' USING ERRCODE = 'check_violation', DETAIL = 'He is banned.', HINT = 'Ask him.';
    END IF;
    NEW.close_reason := session_user || ', ' || current_user;
    RETURN NEW;
END $$;
CREATE TRIGGER no_noah BEFORE INSERT ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.no_noah();
SELECT flashsale.purchase_item(2, 'noah');
SELECT flashsale.purchase_item(2, 'olga') ->> 'success';
SELECT close_reason = format('%s, %s', r.rolname, r.rolname) AS as_owner
FROM flashsale.orders, pg_extension e JOIN pg_roles r ON r.oid = e.extowner WHERE user_id = 'olga' AND extname = 'flashsale';
-- An error that looks like a lock of another session or a timeout is not mistaken for one, and a
-- setting that a trigger changes for the session is reset before the next purchase.
CREATE OR REPLACE FUNCTION t.no_noah() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE NEW.user_id
        WHEN 'lock' THEN RAISE EXCEPTION 'locked' USING ERRCODE = 'lock_not_available';
        WHEN 'cancel' THEN RAISE EXCEPTION 'cancelled' USING ERRCODE = 'query_canceled';
        WHEN 'set' THEN
            PERFORM set_config('default_transaction_read_only', 'on', false), set_config('search_path', 'public', false);
        WHEN 'nothing' THEN RETURN NULL;
        ELSE
    END CASE;
    RETURN NEW;
END $$;
SELECT flashsale.restock_item(2, 2) ->> 'success';
SELECT t.answer(flashsale.purchase_item(2, 'lock'));
SELECT flashsale.purchase_item(2, 'cancel');
SELECT flashsale.purchase_item(2, 'set') ->> 'success';
SELECT flashsale.purchase_item(2, 'nothing');
SELECT flashsale.purchase_item(2, 'otto') ->> 'success';
DROP TRIGGER no_noah ON flashsale.orders;
DROP FUNCTION t.no_noah();

-- An application with only its grants.
CREATE ROLE t_grouped_app;
SELECT flashsale.grant_app('t_grouped_app');
SET ROLE t_grouped_app;
SELECT flashsale.purchase_item(2, 'pam') ->> 'success';
SELECT flashsale.read_stats();
RESET ROLE;
SELECT flashsale.cancel_order(t.id('pam')) ->> 'restored';
DROP OWNED BY t_grouped_app;
DROP ROLE t_grouped_app;

-- The counters.
SELECT strategy, name, value FROM flashsale.stats WHERE subject = 'purchases' AND value > 0 ORDER BY strategy, name;
SELECT name, value > 0 AS counted FROM flashsale.stats WHERE subject = 'seller' ORDER BY name;
SELECT name FROM flashsale.stats WHERE subject = 'reconciler' ORDER BY name;
SELECT flashsale.stats_reset();
SELECT count(*) FROM flashsale.stats WHERE subject = 'purchases' AND value > 0;
RESET flashsale.strategy;
SELECT t.stock(1), t.stock(2);
SELECT * FROM flashsale.audit();
