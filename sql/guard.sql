-- The guard of the orders against DDL. A hook of the library refuses; the event trigger loads the
-- library where it is not preloaded, and where it cannot be loaded, guards without it.

-- Without the library, a cursor on the table node stays open until the end of the transaction. PostgreSQL
-- drops no relation that is in use (55006), however the statement comes to drop it, and this one is dropped
-- only with the extension, which takes its event triggers along before they could see that. The cursor's
-- query has a digest of the extension's members and of its tables' columns, and a statement after which that
-- is another one is refused. No other statement fails because of the event triggers.
CREATE FUNCTION flashsale.load_guard() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' SET quote_all_identifiers = off AS $$
DECLARE
    advice CONSTANT text := 'Install the package again. A superuser who wants to lose the orders sets flashsale.protect_data to off.';
    ours CONSTANT text := '^SELECT ''flashsale [0-9a-f]{64}''';
    failure text := 'an earlier version of it is loaded';
    has_orders boolean := true;
    query text;
    held refcursor;
BEGIN
    BEGIN
        -- Any function of the library, with the types of its arguments, so that no other of its name is a better match.
        PERFORM flashsale.stock_adds_up(0::bigint, 0::bigint);
    EXCEPTION WHEN OTHERS THEN
        failure := SQLERRM;
    END;
    -- The library's setting is shown; one that a session has made up is not, and anybody can do that.
    IF 'NO_SHOW_ALL' <> ALL (pg_settings_get_flags('flashsale.protect_data')) THEN
        RETURN;
    END IF;
    SELECT format('SELECT ''flashsale %s'' FROM %s', encode(sha256(convert_to(m.list || c.list, 'UTF8')), 'hex'), c.node)
    INTO query
    FROM pg_extension e
    CROSS JOIN LATERAL (
        SELECT string_agg(concat_ws(' ', d.classid, d.objid), ',' ORDER BY d.classid, d.objid)
        FROM pg_depend d WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e') AS m (list)
    CROSS JOIN LATERAL (
        SELECT string_agg(concat_ws(' ', r.oid::regclass, a.attname, a.atttypid, a.atttypmod), ',' ORDER BY r.oid, a.attnum),
               min(r.oid::regclass::text) FILTER (WHERE r.relname = 'node')
        FROM pg_class r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE r.oid = ANY (e.extconfig)) AS c (list, node)
    WHERE e.extname = 'flashsale';
    IF tg_event = 'ddl_command_end' THEN
        IF EXISTS (SELECT FROM pg_cursors c WHERE c.statement ~ ours AND c.statement IS DISTINCT FROM query) THEN
            RAISE 'without its library flashsale does not let its tables be changed while there are orders'
                USING ERRCODE = 'dependent_objects_still_exist', HINT = advice;
        END IF;
        RETURN;
    END IF;
    BEGIN
        -- Pages, since rows can be hidden: by a snapshot, or by row security.
        has_orders := pg_relation_size('flashsale.orders') > 0 OR pg_relation_size('flashsale.payments') > 0;
    EXCEPTION WHEN OTHERS THEN
        NULL; -- they are locked or have other names, and orders perhaps
    END;
    IF NOT has_orders
        OR (CASE WHEN current_setting('is_superuser') = 'on' THEN NOT current_setting('flashsale.protect_data', true)::boolean END) THEN
        FOR held IN SELECT c.name FROM pg_cursors c WHERE c.statement ~ ours LOOP
            CLOSE held; -- of an earlier statement
        END LOOP;
    ELSIF NOT EXISTS (SELECT FROM pg_cursors c WHERE c.statement = query) THEN
        OPEN held FOR EXECUTE (SELECT query); -- pgspot wants a statement
        RAISE WARNING 'without its library flashsale does not let its tables be dropped or changed: %', failure USING HINT = advice;
    END IF;
EXCEPTION WHEN dependent_objects_still_exist THEN
    RAISE;
WHEN OTHERS THEN
    RAISE WARNING 'flashsale does not protect its orders: %', SQLERRM;
END $$;
COMMENT ON FUNCTION flashsale.load_guard() IS 'Event trigger: loads the library, which refuses statements that would lose orders; if it cannot be loaded, refuses them without it.';

CREATE EVENT TRIGGER flashsale_guard ON ddl_command_start
    -- Whatever may drop or rename a table, also because it cascades to one.
    WHEN TAG IN ('ALTER EXTENSION', 'ALTER FOREIGN TABLE', 'ALTER INDEX', 'ALTER MATERIALIZED VIEW', 'ALTER SCHEMA',
        'ALTER SEQUENCE', 'ALTER TABLE', 'ALTER TYPE', 'ALTER VIEW', 'DROP ACCESS METHOD', 'DROP AGGREGATE', 'DROP CAST',
        'DROP COLLATION', 'DROP DOMAIN', 'DROP EXTENSION', 'DROP FOREIGN DATA WRAPPER', 'DROP FOREIGN TABLE', 'DROP FUNCTION',
        'DROP LANGUAGE', 'DROP MATERIALIZED VIEW', 'DROP OPERATOR', 'DROP OPERATOR CLASS', 'DROP OPERATOR FAMILY', 'DROP OWNED',
        'DROP PROCEDURE', 'DROP ROUTINE', 'DROP SCHEMA', 'DROP SEQUENCE', 'DROP SERVER', 'DROP TABLE', 'DROP TYPE', 'DROP VIEW')
    EXECUTE FUNCTION flashsale.load_guard();
ALTER EVENT TRIGGER flashsale_guard ENABLE ALWAYS; -- also in sessions that load data as replicas do
COMMENT ON EVENT TRIGGER flashsale_guard IS 'Sees to it that the library is loaded before a statement that could lose orders.';

CREATE EVENT TRIGGER flashsale_guard_end ON ddl_command_end
    WHEN TAG IN ('ALTER EXTENSION', 'ALTER FOREIGN TABLE', 'ALTER INDEX', 'ALTER MATERIALIZED VIEW', 'ALTER SCHEMA',
        'ALTER SEQUENCE', 'ALTER TABLE', 'ALTER TYPE', 'ALTER VIEW', 'DROP ACCESS METHOD', 'DROP AGGREGATE', 'DROP CAST',
        'DROP COLLATION', 'DROP DOMAIN', 'DROP EXTENSION', 'DROP FOREIGN DATA WRAPPER', 'DROP FOREIGN TABLE', 'DROP FUNCTION',
        'DROP LANGUAGE', 'DROP MATERIALIZED VIEW', 'DROP OPERATOR', 'DROP OPERATOR CLASS', 'DROP OPERATOR FAMILY', 'DROP OWNED',
        'DROP PROCEDURE', 'DROP ROUTINE', 'DROP SCHEMA', 'DROP SEQUENCE', 'DROP SERVER', 'DROP TABLE', 'DROP TYPE', 'DROP VIEW')
    EXECUTE FUNCTION flashsale.load_guard();
ALTER EVENT TRIGGER flashsale_guard_end ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER flashsale_guard_end IS 'Where the library cannot be loaded, refuses a statement that has changed the tables.';
