-- A purchase leaves the settings of its session unchanged, even if a shop's triggers change
-- them; and the triggers run under the settings of the caller, or of the server under grouped.
\pset tuples_only on
\pset format unaligned
CALL t.reset();
SELECT flashsale.create_item(1000, item_id => 1);
CREATE FUNCTION t.settings() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(name || ' ' || current_setting(name), ', ' ORDER BY name)
    FROM unnest('{lock_timeout,enable_seqscan,enable_bitmapscan,search_path}'::text[]) AS name
$$;
-- A trigger sets them for its transaction.
CREATE FUNCTION t.set_local() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lock_timeout', '100ms', true), set_config('enable_seqscan', 'on', true),
        set_config('enable_bitmapscan', 'on', true), set_config('search_path', 'public', true);
    RETURN NEW;
END $$;
CREATE TRIGGER settings AFTER INSERT ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.set_local();
SELECT flashsale.purchase_item(1, 'alice', strategy => 'nowait') ->> 'success', t.settings();
SELECT flashsale.purchase_item(1, 'alice', strategy => 'optimistic') ->> 'success', t.settings();
SELECT flashsale.purchase_item(1, 'alice', strategy => 'atomic') ->> 'success', t.settings();
SELECT flashsale.purchase_item(1, 'alice', strategy => 'grouped') ->> 'success', t.settings();
SELECT t.settings();
DISCARD ALL;
SELECT t.settings();
-- Where a shorter bound holds, and where the caller has set them.
SET lock_timeout = '1s';
SET enable_seqscan = off;
SELECT flashsale.purchase_item(1, 'alice', strategy => 'nowait') ->> 'success';
SELECT t.settings();
DISCARD ALL;

-- A trigger function has settings of its own, and raises.
CREATE FUNCTION t.set_and_raise() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = '100ms' SET enable_seqscan = on AS $$
BEGIN
    RAISE 'not sold';
END $$;
CREATE OR REPLACE TRIGGER settings AFTER INSERT ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.set_and_raise();
SELECT t.error($$SELECT flashsale.purchase_item(1, 'alice', strategy => 'nowait')$$), t.settings();
SELECT t.error($$SELECT flashsale.purchase_item(1, 'alice', strategy => 'optimistic')$$), t.settings();
SELECT t.error($$SELECT flashsale.purchase_item(1, 'alice', strategy => 'atomic')$$), t.settings();
SELECT t.settings();
DISCARD ALL;
SELECT t.settings();
-- If the trigger changes a setting for the session, it stays changed, as after any INSERT.
CREATE FUNCTION t.set_for_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lock_timeout', '3s', false);
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER settings AFTER INSERT ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.set_for_session();
SELECT flashsale.purchase_item(1, 'alice', strategy => 'nowait') ->> 'success';
SHOW lock_timeout;
RESET lock_timeout;
SHOW lock_timeout;

-- What triggers on both tables run under.
CREATE TABLE t.seen_settings (who text, what text);
CREATE FUNCTION t.see_settings() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.seen_settings VALUES (TG_TABLE_NAME, format('seqscan %s, bitmapscan %s',
        current_setting('enable_seqscan'), current_setting('enable_bitmapscan')));
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER settings AFTER INSERT ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.see_settings();
CREATE TRIGGER settings AFTER UPDATE ON flashsale.items FOR EACH ROW EXECUTE FUNCTION t.see_settings();
CREATE PROCEDURE t.show(strategy text) LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE '%: %', strategy, (SELECT string_agg(DISTINCT who || ' ' || what, '; ' ORDER BY who || ' ' || what) FROM t.seen_settings);
    DELETE FROM t.seen_settings;
END $$;
SELECT flashsale.purchase_item(1, 'alice', strategy => 'nowait') ->> 'success';
CALL t.show('nowait');
SELECT flashsale.purchase_item(1, 'alice', strategy => 'optimistic') ->> 'success';
CALL t.show('optimistic');
SELECT flashsale.purchase_item(1, 'alice', strategy => 'atomic') ->> 'success';
CALL t.show('atomic');
SELECT flashsale.purchase_item(1, 'alice', strategy => 'grouped') ->> 'success';
CALL t.show('grouped');
-- The caller's, not the default.
SET enable_bitmapscan = off;
SELECT flashsale.purchase_item(1, 'alice', strategy => 'nowait') ->> 'success';
CALL t.show('nowait');
SELECT flashsale.purchase_item(1, 'alice', strategy => 'grouped') ->> 'success';
CALL t.show('grouped');
RESET enable_bitmapscan;
DROP TRIGGER settings ON flashsale.items;
DROP TRIGGER settings ON flashsale.orders;

-- A trigger's own statement is planned under them too: it reads its small table whole.
CREATE TABLE t.small AS SELECT n FROM generate_series(1, 3) AS n;
CREATE INDEX ON t.small (n);
ANALYZE t.small;
CREATE FUNCTION t.explain() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
    FOR line IN EXPLAIN (COSTS OFF) SELECT FROM t.small WHERE n = 2 LOOP
        INSERT INTO t.seen_settings VALUES ('plan', line);
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER explain AFTER INSERT ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.explain();
SELECT flashsale.purchase_item(1, 'alice', strategy => 'atomic') ->> 'success';
CALL t.show('atomic');
SELECT flashsale.purchase_item(1, 'alice', strategy => 'grouped') ->> 'success';
CALL t.show('grouped');
DROP TRIGGER explain ON flashsale.orders;

-- Our own plans are made while the tables are small, and do not read them whole once they have grown.
CREATE FUNCTION t.whole_reads() RETURNS bigint LANGUAGE sql AS $$
    SELECT sum(pg_stat_get_xact_numscans(oid)) FROM unnest('{flashsale.items,flashsale.orders}'::regclass[]) AS oid
$$;
CREATE PROCEDURE t.buy_and_return() LANGUAGE plpgsql AS $$
DECLARE strategy text; key text; id bigint;
BEGIN
    FOREACH strategy IN ARRAY '{nowait,optimistic,atomic}'::text[] LOOP
        key := gen_random_uuid();
        id := flashsale.purchase_item(1, key, 1, key, strategy => strategy) ->> 'order_id';
        PERFORM flashsale.begin_payment(id), flashsale.cancel_order(id);
    END LOOP;
END $$;
CALL t.reset();
SELECT flashsale.create_item(1000, item_id => 1, max_per_user => 900);
CALL t.buy_and_return();
ANALYZE flashsale.items, flashsale.orders;
DO $$ BEGIN FOR i IN 1 .. 7 LOOP CALL t.buy_and_return(); END LOOP; END $$;
INSERT INTO flashsale.orders (item_id, user_id, quantity, units_held, status, created_at, expires_at, closed_at)
SELECT 1, 'user ' || n, 1, 0, 'cancelled', now(), now(), now() FROM generate_series(1, 500) AS n;
UPDATE flashsale.items SET cancelled_units = cancelled_units + 500 WHERE item_id = 1;
BEGIN;
SELECT t.whole_reads() AS before \gset
CALL t.buy_and_return();
SELECT t.whole_reads() - :before;
COMMIT;
SELECT * FROM flashsale.audit();

-- Of a buyer's many orders a purchase with a key reads the one with that key, although the index of a
-- buyer's orders is the smaller one.
CREATE FUNCTION t.entries_read() RETURNS bigint LANGUAGE sql AS $$
    SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid)) FROM pg_index WHERE indrelid = 'flashsale.orders'::regclass
$$;
CALL t.reset();
SELECT flashsale.create_item(5000, item_id => 1);
SELECT count(flashsale.purchase_item(1, 'alice', 1, 'key ' || n)) FROM generate_series(1, 600) AS n;
DISCARD PLANS;
BEGIN;
SELECT t.entries_read() AS before \gset
SELECT flashsale.purchase_item(1, 'alice', 1, 'key 599') ->> 'replayed', flashsale.purchase_item(1, 'alice', 1, 'other key') ->> 'success';
SELECT flashsale.purchase_batch('[{"item_id": 1, "user_id": "alice", "idempotency_key": "key 7"}, {"item_id": 1, "user_id": "alice", "idempotency_key": "key 8"}]')
    @> '[{"replayed": true}]';
SELECT t.entries_read() - :before < 50;
COMMIT;
SELECT * FROM flashsale.audit();
