-- What pg_stat_activity says of those who wait: from 17 on by name, before as `Extension`, like all
-- waits of extensions.
\pset tuples_only on
\pset format unaligned
CALL t.reset();
SELECT flashsale.create_item(10, item_id => 1), flashsale.create_item(10, item_id => 2);

-- Waits until some process of a kind is seen to wait for this. A minute is far more than it takes.
CREATE FUNCTION t.until_waits(kind text, name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    expected text := CASE WHEN current_setting('server_version_num')::int >= 170000 THEN name ELSE 'Extension' END;
    until timestamptz := clock_timestamp() + interval '1 minute';
BEGIN
    WHILE clock_timestamp() < until LOOP
        PERFORM pg_stat_clear_snapshot();
        IF EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = kind AND pid <> pg_backend_pid()
                   AND wait_event_type = 'Extension' AND wait_event = expected) THEN
            RETURN format('%s: %s', kind, name);
        END IF;
        PERFORM pg_sleep(0.001);
    END LOOP;
    RETURN format('%s: never %s', kind, name);
END $$;

-- The workers, while there is nothing to do.
SELECT t.until_waits('flashsale ' || name, 'FlashsaleWork') FROM unnest('{seller,publisher,reconciler}'::text[]) AS name;

-- The buyer, while the seller serves it: this trigger runs in the seller.
CREATE TABLE t.seen_waits (what text);
CREATE FUNCTION t.see_waits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.seen_waits VALUES (t.until_waits('client backend', 'FlashsaleSeller'));
    RETURN NULL;
END $$;
CREATE TRIGGER see_waits AFTER INSERT ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.see_waits();
SELECT flashsale.purchase_item(1, 'alice', strategy => 'grouped') ->> 'success';
SELECT * FROM t.seen_waits;
DROP TRIGGER see_waits ON flashsale.orders;

-- A transaction of the seller's that takes its whole time is cut short as by statement_timeout:
-- no error of the seller's, and the buyer is told to come again.
CREATE FUNCTION t.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(600); RETURN NULL; END $$;
CREATE TRIGGER dawdle AFTER INSERT ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.dawdle();
ALTER SYSTEM SET flashsale.group_wait = '1s';
SELECT pg_reload_conf();
-- A new session has it.
\c
SELECT flashsale.stats_reset();
SELECT t.answer(flashsale.purchase_item(2, 'bob', strategy => 'grouped'));
SELECT value FROM flashsale.stats WHERE subject = 'seller' AND name = 'errors';
ALTER SYSTEM RESET flashsale.group_wait;
SELECT pg_reload_conf();
DROP TRIGGER dawdle ON flashsale.orders;
SELECT t.stock(1), t.stock(2);
SELECT * FROM flashsale.audit();
