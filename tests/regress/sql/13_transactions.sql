-- Inside a caller's transaction: rollback, savepoints, isolation levels, what is written and what is not.
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();
SELECT flashsale.create_item(10, unit_price => 250, currency => 'EUR', item_id => 1);
CREATE TEMPORARY TABLE diary (note text);

-- The caller's rollback undoes the purchase, its commit keeps it together with what else was written.
BEGIN;
INSERT INTO diary VALUES ('rolled back');
SELECT t.answer(flashsale.purchase_item(1, 'alice'));
SELECT t.stock(1);
ROLLBACK;
SELECT t.stock(1), (SELECT count(*) FROM flashsale.orders), (SELECT count(*) FROM diary);
BEGIN;
INSERT INTO diary VALUES ('kept');
SELECT flashsale.purchase_item(1, 'alice') ->> 'success';
COMMIT;
SELECT t.stock(1), note FROM diary;

-- All moves of an order in one transaction, and its rollback.
BEGIN;
SELECT t.answer(flashsale.purchase_item(1, 'bob', 2, 'key'));
SELECT t.answer(flashsale.begin_payment(t.id('bob')));
SELECT t.answer(flashsale.confirm_order(t.id('bob'), 'pay-bob', 500, 'EUR'));
SELECT t.answer(flashsale.refund_order(t.id('bob')));
SELECT t.answer(flashsale.refund_payment('pay-bob', 're-bob'));
SELECT t.answer(flashsale.purchase_item(1, 'bob', 2, 'other'));
SELECT t.answer(flashsale.cancel_order(t.id('bob/2')));
SELECT t.stock(1);
SELECT count(*) FROM flashsale.audit();
ROLLBACK;
SELECT t.stock(1);
SELECT * FROM t.orders();

-- Savepoints: what is rolled back to is undone, the rest stands.
BEGIN;
SELECT flashsale.purchase_item(1, 'carol') ->> 'remaining_inventory';
SAVEPOINT one;
SELECT flashsale.purchase_item(1, 'carol', 2) ->> 'remaining_inventory';
SAVEPOINT two;
SELECT flashsale.purchase_item(1, 'carol', 3) ->> 'remaining_inventory';
RELEASE two;
ROLLBACK TO one;
SELECT flashsale.purchase_item(1, 'carol', 4) ->> 'remaining_inventory';
COMMIT;
SELECT * FROM t.orders() WHERE name ^@ 'carol';
SELECT t.stock(1);
-- An exception block is one as well.
DO $$
BEGIN
    PERFORM flashsale.purchase_item(1, 'dave');
    BEGIN
        PERFORM flashsale.purchase_item(1, 'dave', 2);
        PERFORM 1 / 0;
    EXCEPTION WHEN division_by_zero THEN NULL;
    END;
END $$;
SELECT * FROM t.orders() WHERE name ^@ 'dave';
-- Refusals are answers: the transaction goes on.
BEGIN;
INSERT INTO diary VALUES ('after refusals');
SELECT flashsale.purchase_item(99, 'erin') ->> 'reason', flashsale.purchase_item(1, 'erin', 99) ->> 'reason';
SELECT flashsale.begin_payment(99) ->> 'reason', flashsale.cancel_order(99) ->> 'reason',
       flashsale.refund_order(99) ->> 'reason';
INSERT INTO diary VALUES ('still here');
COMMIT;
SELECT note FROM diary;
-- A bad argument aborts it like any error.
BEGIN;
SELECT flashsale.purchase_item(1, 'erin') ->> 'success';
\set VERBOSITY sqlstate
SELECT flashsale.purchase_item(1, 'erin', 0);
SELECT flashsale.purchase_item(1, 'erin');
\set VERBOSITY default
COMMIT;
SELECT count(*) FROM flashsale.orders WHERE user_id = 'erin';

-- Several purchases in one statement see each other.
SELECT flashsale.create_item(3, max_per_user => 2, item_id => 2);
SELECT flashsale.purchase_item(2, 'frank') ->> 'remaining_inventory',
       flashsale.purchase_item(2, 'frank') ->> 'remaining_inventory',
       flashsale.purchase_item(2, 'frank') ->> 'reason', flashsale.purchase_item(2, 'gina') ->> 'remaining_inventory',
       flashsale.purchase_item(2, 'hal') ->> 'reason';

-- A refusal that needs no lock takes no transaction id. A sale does.
SELECT flashsale.create_item(5, item_id => 3), flashsale.pause_item(3) ->> 'paused',
       flashsale.create_item(5, starts_at => 'infinity', item_id => 4);
SELECT flashsale.create_item(5, ends_at => '-infinity', item_id => 5);
BEGIN;
SELECT item, flashsale.purchase_item(item, 'ivy') ->> 'reason' FROM generate_series(2, 6) AS item;
SELECT pg_current_xact_id_if_assigned();
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND mode IN ('RowShareLock', 'RowExclusiveLock')
    AND relation = 'flashsale.items'::regclass;
SELECT flashsale.purchase_item(1, 'ivy') ->> 'success', pg_current_xact_id_if_assigned() IS NOT NULL;
ROLLBACK;

-- The hot row is updated by HOT: no index changes.
VACUUM flashsale.items;
BEGIN;
SELECT pg_stat_get_xact_tuples_updated('flashsale.items'::regclass) AS updated,
       pg_stat_get_xact_tuples_hot_updated('flashsale.items'::regclass) AS hot \gset
SELECT count(*) FROM generate_series(1, 3) WHERE flashsale.purchase_item(1, 'jack') -> 'success' = 'true';
SELECT pg_stat_get_xact_tuples_updated('flashsale.items'::regclass) - :updated,
       pg_stat_get_xact_tuples_hot_updated('flashsale.items'::regclass) - :hot;
ROLLBACK;

-- A thousand sales create no multixact, wrapped in savepoints by the caller or not.
SELECT flashsale.create_item(1300, item_id => 7);
CHECKPOINT;
SELECT next_multixact_id AS multixact FROM pg_control_checkpoint() \gset
DO $$
BEGIN
    FOR u IN 1 .. 1000 LOOP
        PERFORM flashsale.purchase_item(7, u);
        COMMIT;
    END LOOP;
END $$;
DO $$
BEGIN
    FOR u IN 1 .. 300 LOOP
        BEGIN
            PERFORM flashsale.purchase_item(7, u);
        EXCEPTION WHEN division_by_zero THEN NULL;
        END;
        COMMIT;
    END LOOP;
END $$;
CHECKPOINT;
SELECT next_multixact_id = :multixact FROM pg_control_checkpoint();
SELECT t.stock(7);

-- Nothing changes in a read-only transaction.
\set VERBOSITY sqlstate
BEGIN READ ONLY;
SELECT flashsale.purchase_item(1, 'kim');
ROLLBACK;
BEGIN READ ONLY;
SELECT flashsale.confirm_order(t.id('alice'), 'pay-alice');
ROLLBACK;
\set VERBOSITY default

-- REPEATABLE READ and SERIALIZABLE: the same answers while no other transaction interferes.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT t.stock(2);
SELECT t.answer(flashsale.purchase_item(1, 'lea', 1, 'key'));
SELECT t.answer(flashsale.purchase_item(1, 'lea', 1, 'key'));
SELECT flashsale.purchase_item(2, 'lea') ->> 'reason', flashsale.purchase_item(99, 'lea') ->> 'reason';
SELECT flashsale.begin_payment(t.id('lea')) ->> 'status', flashsale.confirm_order(t.id('lea'), 'pay-lea') ->> 'status';
SELECT flashsale.refund_order(t.id('lea')) ->> 'restored', flashsale.refund_payment('pay-lea') ->> 'status';
SELECT flashsale.reconcile_stale_reservations() ->> 'expired', flashsale.restock_item(1, 1) ->> 'success';
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT t.answer(flashsale.purchase_item(1, 'max', 1, 'key'));
SELECT t.answer(flashsale.purchase_item(1, 'max', 1, 'key'));
SELECT flashsale.purchase_item(2, 'max') ->> 'reason';
SELECT flashsale.cancel_order(t.id('max')) ->> 'restored';
SELECT flashsale.purchase_item(1, 'max') ->> 'success';
COMMIT;
SELECT * FROM t.orders() WHERE name ~ '^(lea|max)';
SELECT t.stock(1);
SELECT * FROM flashsale.audit();
