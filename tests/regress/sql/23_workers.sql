-- The workers connect as the bootstrap superuser and work as the functions' owner, whose triggers
-- cannot get more than the owner has.
SET flashsale.protect_data = off;
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;
DROP EXTENSION flashsale;
CREATE ROLE t_owner SUPERUSER;
SET ROLE t_owner;
CREATE EXTENSION flashsale;
RESET ROLE;
ALTER ROLE t_owner NOSUPERUSER;
SELECT flashsale.create_item(10, item_id => 1);

CREATE TABLE t.escapes (at text, way text, said text, who text, superuser text);
GRANT INSERT ON t.escapes TO t_owner;
CREATE FUNCTION t.escape() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE way text; said text;
BEGIN
    FOREACH way IN ARRAY ARRAY[
        'SET ROLE postgres', 'RESET ROLE', 'SET SESSION AUTHORIZATION postgres', 'RESET SESSION AUTHORIZATION',
        $w$SELECT set_config('role', 'postgres', false)$w$, $w$SELECT set_config('session_authorization', 'postgres', true)$w$,
        'RESET ALL', 'DISCARD ALL', 'COPY t.escapes TO PROGRAM ''cat >/dev/null''']
    LOOP
        BEGIN
            EXECUTE way;
            said := 'done';
        EXCEPTION WHEN OTHERS THEN
            said := sqlstate;
        END;
        INSERT INTO t.escapes VALUES (TG_OP, way, said, session_user || ' ' || current_user, current_setting('is_superuser'));
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER escape AFTER INSERT OR UPDATE ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.escape();
-- The seller, as t_owner.
SELECT flashsale.purchase_item(1, 'alice', strategy => 'grouped') ->> 'success';
SELECT way, said, who, superuser FROM t.escapes WHERE at = 'INSERT' ORDER BY way;
-- The reconciler.
ALTER TABLE flashsale.orders DISABLE TRIGGER escape;
CALL t.make_stale('alice');
ALTER TABLE flashsale.orders ENABLE TRIGGER escape;
ALTER SYSTEM SET flashsale.reconcile_interval = '1s';
SELECT pg_reload_conf();
SET statement_timeout = '2min';
DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM t.escapes WHERE at = 'UPDATE') LOOP PERFORM pg_sleep(0.01); COMMIT; END LOOP; END $$;
RESET statement_timeout;
ALTER SYSTEM RESET flashsale.reconcile_interval;
SELECT pg_reload_conf();
SELECT way, said, who, superuser FROM t.escapes WHERE at = 'UPDATE' ORDER BY way;
SELECT * FROM t.orders();

-- An order whose trigger finds a row locked is passed over for the run only, and its neighbour expires meanwhile.
DROP TRIGGER escape ON flashsale.orders;
CREATE TABLE t.counts (n bigint NOT NULL);
INSERT INTO t.counts VALUES (0);
CREATE FUNCTION t.count() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    IF OLD.user_id = 'bob' THEN PERFORM FROM t.counts FOR UPDATE NOWAIT; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER count BEFORE UPDATE OF status ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.count();
CREATE PROCEDURE t.await_expiry(who text) LANGUAGE plpgsql AS $$ BEGIN
    WHILE NOT EXISTS (SELECT FROM flashsale.orders WHERE user_id = who AND status = 'expired') LOOP
        PERFORM pg_sleep(0.01);
        COMMIT;
    END LOOP;
END $$;
BEGIN;
SELECT n FROM t.counts FOR UPDATE;
PREPARE TRANSACTION 'other';
SELECT flashsale.purchase_item(1, who) ->> 'success' FROM unnest('{bob,carol}'::text[]) AS who;
UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 hour' + order_id * interval '1 s' WHERE user_id IN ('bob', 'carol');
ALTER SYSTEM SET flashsale.reconcile_interval = '1s';
SELECT pg_reload_conf();
SET statement_timeout = '2min';
CALL t.await_expiry('carol');
SELECT status FROM flashsale.orders WHERE user_id = 'bob';
COMMIT PREPARED 'other';
CALL t.await_expiry('bob');
RESET statement_timeout;
ALTER SYSTEM RESET flashsale.reconcile_interval;
SELECT pg_reload_conf();
DROP TRIGGER count ON flashsale.orders;
DROP PROCEDURE t.await_expiry(text);
DROP FUNCTION t.count();
DROP TABLE t.counts;

DROP EXTENSION flashsale;
DROP TABLE t.escapes;
DROP FUNCTION t.escape();
DROP ROLE t_owner;
CREATE EXTENSION flashsale;
