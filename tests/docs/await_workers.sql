-- Waits until the workers are there, which come a moment after CREATE EXTENSION. The limit ends what would hang.
DO $$
BEGIN
    FOR n IN 1..600 LOOP
        PERFORM pg_stat_clear_snapshot();
        EXIT WHEN NOT EXISTS (SELECT FROM flashsale.health() WHERE problem = 'worker_missing');
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;
