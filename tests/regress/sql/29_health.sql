-- Each problem appears in health(), and goes away.
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;
SET flashsale.protect_data = off;
DROP EXTENSION flashsale;
CREATE EXTENSION flashsale;
RESET flashsale.protect_data;
-- The reconciler is off in this server, and the workers of a new extension are on their way.
DO $$ BEGIN
    WHILE EXISTS (SELECT FROM flashsale.health() WHERE problem = 'worker_missing') LOOP
        PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot();
    END LOOP;
END $$;
SELECT * FROM flashsale.health();
SELECT flashsale.create_item(100, unit_price => 5, currency => 'EUR', item_id => 1);
SELECT flashsale.purchase_item(1, user_id) ->> 'success' FROM unnest('{alice,bob}'::text[]) AS user_id;
SELECT * FROM flashsale.health();

-- Work that nobody does.
UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '2 minutes' WHERE user_id = 'alice';
SELECT severity, problem, regexp_replace(detail, 'since .*', 'since …'), hint FROM flashsale.health();
SELECT flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT * FROM flashsale.health();
SELECT flashsale.begin_payment(t.id('bob')) ->> 'success';
UPDATE flashsale.orders SET payment_deadline = clock_timestamp() - interval '11 minutes' WHERE user_id = 'bob';
SELECT severity, problem, regexp_replace(detail, 'since .*', 'since …'), hint FROM flashsale.health();
SELECT flashsale.confirm_order(t.id('bob'), 'charge', 5, 'EUR') ->> 'success';
SELECT * FROM flashsale.health();
SELECT flashsale.refund_order(t.id('bob')) ->> 'success';
SELECT * FROM flashsale.health();
UPDATE flashsale.payments SET due_since = due_since - interval '61 minutes';
SELECT severity, problem, regexp_replace(detail, 'since .*', 'since …'), hint FROM flashsale.health();
SELECT flashsale.refund_payment('charge') ->> 'success';
SELECT * FROM flashsale.health();

-- Ids; commits that can be lost; the guard.
BEGIN;
SELECT setval('flashsale.orders_order_id_seq', 1), setval('flashsale.payments_payment_id_seq', 1, false);
SELECT severity, problem, detail, hint FROM flashsale.health();
ROLLBACK;
SELECT setval('flashsale.orders_order_id_seq', 2), setval('flashsale.payments_payment_id_seq', 1);
SELECT * FROM flashsale.health();
BEGIN;
SELECT setval('flashsale.items_item_id_seq', 9007199254740000);
SELECT problem, detail FROM flashsale.health();
ROLLBACK;
SELECT setval('flashsale.items_item_id_seq', 1);
-- Also of a sequence that has another name and its own steps, in which the hint keeps to them.
BEGIN;
SET LOCAL flashsale.protect_data = off;
ALTER SEQUENCE flashsale.orders_order_id_seq RENAME TO numbers;
ALTER SEQUENCE flashsale.numbers INCREMENT 3 CACHE 10;
SELECT setval('flashsale.numbers', 1);
SELECT severity, problem, detail, hint FROM flashsale.health();
ROLLBACK;
SELECT setval('flashsale.orders_order_id_seq', 2);
SELECT * FROM flashsale.health();
ALTER DATABASE :DBNAME SET synchronous_commit = off;
ALTER DATABASE :DBNAME SET flashsale.protect_data = off;
\c
SELECT * FROM flashsale.health();
ALTER DATABASE :DBNAME RESET synchronous_commit;
ALTER DATABASE :DBNAME RESET flashsale.protect_data;
\c
SELECT * FROM flashsale.health();

-- Files of another version than the extension in the database.
BEGIN;
UPDATE pg_extension SET extversion = '0.1.0' WHERE extname = 'flashsale';
SELECT severity, problem, regexp_replace(detail, 'files .*', 'files …'), hint FROM flashsale.health();
ROLLBACK;
SELECT * FROM flashsale.health();

-- What a dump does not carry: objects that a shop hangs on a table, and properties that it changes.
BEGIN;
SET LOCAL flashsale.protect_data = off;
CREATE FUNCTION t.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER mine BEFORE INSERT ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.nothing();
CREATE INDEX mine ON flashsale.payments (amount);
CREATE UNIQUE INDEX also_mine ON flashsale.items (name);
ALTER TABLE flashsale.items ADD CONSTRAINT mine CHECK (stock < 1000), ADD COLUMN color text;
CREATE POLICY mine ON flashsale.orders;
ALTER TABLE flashsale.orders ENABLE ROW LEVEL SECURITY, REPLICA IDENTITY FULL, SET (fillfactor = 70),
    ALTER unit_price SET NOT NULL, ALTER user_id SET STATISTICS 500;
ALTER TABLE flashsale.items ALTER max_per_user SET DEFAULT 2, ALTER paused SET DEFAULT true;
CREATE STATISTICS t.mine ON item_id, user_id FROM flashsale.orders;
CREATE RULE mine AS ON DELETE TO flashsale.stock_movements DO INSTEAD NOTHING;
SET client_min_messages = error; -- of wal_level
CREATE PUBLICATION mine FOR TABLE flashsale.orders;
SET client_min_messages = warning;
CREATE TABLE t.parent ();
ALTER TABLE flashsale.orders INHERIT t.parent;
CREATE TABLE t.others (order_id bigint REFERENCES flashsale.orders);
ALTER TABLE flashsale.payments ADD CONSTRAINT to_orders FOREIGN KEY (order_id) REFERENCES flashsale.orders;
SELECT severity, problem, detail FROM flashsale.health();
ROLLBACK;
SELECT * FROM flashsale.health();

-- Operators may call it.
CREATE ROLE t_operator;
SELECT flashsale.grant_operator('t_operator');
SET ROLE t_operator;
SELECT * FROM flashsale.health();
RESET ROLE;
DROP OWNED BY t_operator;
DROP ROLE t_operator;
