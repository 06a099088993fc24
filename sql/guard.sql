-- The guard of the orders against DDL. A hook of the library refuses; the event trigger loads the
-- library where it is not preloaded.

-- Never a reason why a statement fails: without the library there is no guard either.
CREATE FUNCTION flashsale.load_guard() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Any function of the library, with the types of its arguments, so that no other of its name is a better match.
    PERFORM flashsale.stock_adds_up(0::bigint, 0::bigint);
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'flashsale does not protect its orders: %', SQLERRM;
END $$;
COMMENT ON FUNCTION flashsale.load_guard() IS 'Event trigger: loads the library, which refuses statements that would lose orders.';

CREATE EVENT TRIGGER flashsale_guard ON ddl_command_start
    -- Whatever may drop or rename a table, also because it cascades to one.
    WHEN TAG IN ('ALTER EXTENSION', 'ALTER FOREIGN TABLE', 'ALTER INDEX', 'ALTER MATERIALIZED VIEW', 'ALTER SCHEMA',
        'ALTER SEQUENCE', 'ALTER TABLE', 'ALTER TYPE', 'ALTER VIEW', 'DROP DOMAIN', 'DROP EXTENSION', 'DROP FOREIGN TABLE',
        'DROP OWNED', 'DROP SCHEMA', 'DROP SEQUENCE', 'DROP TABLE', 'DROP TYPE')
    EXECUTE FUNCTION flashsale.load_guard();
COMMENT ON EVENT TRIGGER flashsale_guard IS 'Sees to it that the library is loaded before a statement that could lose orders.';
