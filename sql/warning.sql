-- The workers serve one database of the server. Who creates the extension in another one gets a warning.

DO $$
DECLARE
    served text;
BEGIN
    -- The library is loaded by now, so PostgreSQL knows its settings.
    SELECT setting INTO served FROM pg_catalog.pg_settings WHERE name = 'flashsale.database' AND context = 'postmaster';
    IF served IS NULL THEN
        RAISE WARNING 'no workers serve this database: flashsale is not in shared_preload_libraries'
            USING HINT = 'Preload it, or call flashsale.reconcile_stale_reservations() every few seconds; without workers no reservation expires by itself, and strategy grouped does not work.';
    ELSIF served <> pg_catalog.current_database() THEN
        RAISE WARNING 'no workers serve this database: flashsale.database is "%"', served
            USING HINT = 'Set flashsale.database to this database and restart the server, or call flashsale.reconcile_stale_reservations() every few seconds; without workers no reservation expires by itself, and strategy grouped does not work.';
    END IF;
END $$;
