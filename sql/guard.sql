-- The guard of the orders against DDL. A hook of the library refuses; the event trigger loads the
-- library where it is not preloaded, and where it cannot be loaded, guards without it.

-- Without the library, a cursor on a sequence of ours stays open until the end of the transaction. PostgreSQL
-- drops no relation that is in use (55006), however the statement comes to drop it, and this one is dropped
-- only with the extension, which takes its event triggers along before they could see that. The cursor's
-- query has a digest of the tables' names and columns, and a statement after which that is another one is
-- refused. No other statement fails because of the event triggers.
CREATE FUNCTION flashsale.load_guard() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    advice CONSTANT text := 'Install the package again. A superuser who wants to lose the orders sets flashsale.protect_data to off.';
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
    IF 'NO_SHOW_ALL' <> ALL (pg_settings_get_flags('flashsale.protect_data'))
        OR current_setting('is_superuser') = 'on' AND current_setting('flashsale.protect_data', true) = 'off' THEN
        RETURN;
    END IF;
    SELECT format('SELECT ''flashsale %s'' FROM %s',
                  md5(string_agg(concat_ws(' ', c.oid::regclass, a.attname, a.atttypid, a.atttypmod), ',' ORDER BY c.oid, a.attnum)),
                  min(c.oid::regclass::text) FILTER (WHERE c.relkind = 'S'))
    INTO query
    FROM pg_extension e JOIN pg_class c ON c.oid = ANY (e.extconfig)
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE e.extname = 'flashsale';
    IF tg_event = 'ddl_command_end' THEN
        IF EXISTS (SELECT FROM pg_cursors c WHERE c.statement ^@ 'SELECT ''flashsale ' AND c.statement IS DISTINCT FROM query) THEN
            RAISE 'without its library flashsale does not let its tables be changed while there are orders'
                USING ERRCODE = 'dependent_objects_still_exist', HINT = advice;
        END IF;
        RETURN;
    END IF;
    BEGIN
        has_orders := EXISTS (SELECT FROM flashsale.orders) OR EXISTS (SELECT FROM flashsale.payments);
    EXCEPTION WHEN undefined_table THEN
        NULL; -- they have other names, and orders perhaps
    END;
    IF has_orders THEN
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
        'ALTER SEQUENCE', 'ALTER TABLE', 'ALTER TYPE', 'ALTER VIEW', 'DROP DOMAIN', 'DROP EXTENSION', 'DROP FOREIGN TABLE',
        'DROP OWNED', 'DROP SCHEMA', 'DROP SEQUENCE', 'DROP TABLE', 'DROP TYPE')
    EXECUTE FUNCTION flashsale.load_guard();
COMMENT ON EVENT TRIGGER flashsale_guard IS 'Sees to it that the library is loaded before a statement that could lose orders.';

CREATE EVENT TRIGGER flashsale_guard_end ON ddl_command_end
    WHEN TAG IN ('ALTER EXTENSION', 'ALTER FOREIGN TABLE', 'ALTER INDEX', 'ALTER MATERIALIZED VIEW', 'ALTER SCHEMA',
        'ALTER SEQUENCE', 'ALTER TABLE', 'ALTER TYPE', 'ALTER VIEW', 'DROP DOMAIN', 'DROP EXTENSION', 'DROP FOREIGN TABLE',
        'DROP OWNED', 'DROP SCHEMA', 'DROP SEQUENCE', 'DROP TABLE', 'DROP TYPE')
    EXECUTE FUNCTION flashsale.load_guard();
COMMENT ON EVENT TRIGGER flashsale_guard_end IS 'Where the library cannot be loaded, refuses a statement that has changed the tables.';
