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

DROP EXTENSION flashsale;
DROP TABLE t.escapes;
DROP FUNCTION t.escape();
DROP ROLE t_owner;
CREATE EXTENSION flashsale;
