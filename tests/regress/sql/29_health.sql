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

-- Also if only a role has it.
CREATE ROLE t_hasty;
ALTER ROLE t_hasty SET synchronous_commit = off;
SELECT * FROM flashsale.health();
SELECT hint FROM flashsale.health() WHERE problem = 'synchronous_commit_off' \gexec
ALTER ROLE t_hasty IN DATABASE :DBNAME SET synchronous_commit = false;
SELECT problem, detail FROM flashsale.health();
SELECT hint FROM flashsale.health() WHERE problem = 'synchronous_commit_off' \gexec
ALTER ROLE t_hasty IN DATABASE template1 SET synchronous_commit = off; -- not here
SELECT * FROM flashsale.health();
DROP ROLE t_hasty;

-- A sequence of the shop's own range is near its end there.
BEGIN;
ALTER SEQUENCE flashsale.orders_order_id_seq MAXVALUE 1000 CYCLE;
SELECT setval('flashsale.orders_order_id_seq', 950);
SELECT severity, problem, detail, hint FROM flashsale.health();
SELECT hint FROM flashsale.health() WHERE problem = 'sequence_near_its_end' \gexec
SELECT problem, detail FROM flashsale.health();
-- Ids end at 2^53, whatever it allows.
ALTER SEQUENCE flashsale.orders_order_id_seq MAXVALUE 9223372036854775807;
SELECT setval('flashsale.orders_order_id_seq', 9007199254740000);
SELECT problem, detail FROM flashsale.health();
ROLLBACK;
SELECT setval('flashsale.orders_order_id_seq', 2);
SELECT * FROM flashsale.health();

-- What the extension needs of its tables; the hints are what to do.
BEGIN;
ALTER TABLE flashsale.stock_movements SET UNLOGGED;
ALTER TABLE flashsale.items DISABLE TRIGGER check_item;
ALTER TABLE flashsale.orders ENABLE REPLICA TRIGGER guard_orders_truncate;
ALTER EVENT TRIGGER flashsale_guard DISABLE;
SELECT severity, problem, detail, hint FROM flashsale.health();
SELECT hint FROM flashsale.health() \gexec
SELECT * FROM flashsale.health();
-- A dump would have no orders, or could not be restored.
SET LOCAL flashsale.protect_data = off;
ALTER EXTENSION flashsale DROP TABLE flashsale.orders;
ALTER EXTENSION flashsale DROP SEQUENCE flashsale.payments_payment_id_seq;
UPDATE pg_extension SET extconfig = NULL, extcondition = NULL WHERE extname = 'flashsale';
SELECT severity, problem, detail, hint FROM flashsale.health() ORDER BY detail COLLATE "C";
SELECT hint FROM flashsale.health() \gexec
SELECT * FROM flashsale.health();
SELECT cardinality(extconfig), cardinality(extcondition) FROM pg_extension WHERE extname = 'flashsale';
ROLLBACK;
BEGIN;
SET LOCAL flashsale.protect_data = off;
DROP INDEX flashsale.orders_expiry;
ALTER TABLE flashsale.payments DROP CONSTRAINT payments_fate, DROP CONSTRAINT payments_payment_ref_key;
DROP TRIGGER raise_version ON flashsale.items;
ALTER TABLE flashsale.items DROP COLUMN created_at;
ALTER TABLE flashsale.orders ALTER user_id DROP NOT NULL;
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'flashsale.orders_holdings'::regclass; -- as CONCURRENTLY leaves it
SELECT severity, problem, detail FROM flashsale.health();
SELECT DISTINCT regexp_replace(hint, '--[0-9.]+sql', '--….sql') FROM flashsale.health() WHERE problem = 'definition_missing';
ROLLBACK;
-- Defaults without which nothing can be inserted; another name for a sequence does no harm.
BEGIN;
SET LOCAL flashsale.protect_data = off;
ALTER TABLE flashsale.orders ALTER order_id DROP DEFAULT, ALTER ref_code DROP DEFAULT;
ALTER SEQUENCE flashsale.payments_payment_id_seq RENAME TO mine;
SELECT severity, problem, detail FROM flashsale.health();
ROLLBACK;
-- However the session has names written.
SET quote_all_identifiers = on;
SELECT severity, problem, detail FROM flashsale.health();
RESET quote_all_identifiers;
BEGIN;
SET LOCAL flashsale.protect_data = off;
ALTER TABLE flashsale.orders RENAME payment_deadline TO deadline; -- which another part of health() reads
SELECT severity, problem, count(*) FROM flashsale.health() GROUP BY 1, 2;
SELECT detail FROM flashsale.health() WHERE detail ~ 'fails';
ROLLBACK;
SELECT * FROM flashsale.health();
-- Owners.
CREATE ROLE t_owner;
BEGIN;
ALTER TABLE flashsale.payments OWNER TO t_owner;
ALTER SCHEMA flashsale OWNER TO t_owner; -- it is the extension's, and a restore makes it anew
SELECT severity, problem, detail FROM flashsale.health();
ROLLBACK;
BEGIN;
ALTER SCHEMA flashsale OWNER TO t_owner;
DELETE FROM pg_depend WHERE classid = 'pg_namespace'::regclass AND objid = 'flashsale'::regnamespace AND deptype = 'e'; -- as if made before
SELECT severity, problem, detail, regexp_replace(hint, 'TO .*', 'TO …') FROM flashsale.health();
SELECT hint FROM flashsale.health() \gexec
SELECT * FROM flashsale.health();
ROLLBACK;
-- One who may not see other sessions.
BEGIN;
SET LOCAL flashsale.protect_data = off;
DROP EXTENSION flashsale CASCADE;
ALTER ROLE t_owner SUPERUSER;
SET LOCAL ROLE t_owner;
CREATE EXTENSION flashsale;
RESET ROLE;
ALTER ROLE t_owner NOSUPERUSER;
SELECT severity, problem, detail, hint FROM flashsale.health();
SELECT hint FROM flashsale.health() \gexec
SELECT * FROM flashsale.health();
ROLLBACK;
DROP ROLE t_owner;

-- Another session that holds a table does not hold up health().
BEGIN; LOCK flashsale.payments; PREPARE TRANSACTION 'locks';
SELECT severity, problem, detail, hint FROM flashsale.health();
ROLLBACK PREPARED 'locks';
SELECT * FROM flashsale.health();

-- Files of another version than the extension in the database, where this session and the server go on with the
-- library that they have; it compares again when a function has changed, and then every call fails.
BEGIN;
UPDATE pg_extension SET extversion = '0.1.0' WHERE extname = 'flashsale';
SELECT severity, problem, regexp_replace(detail, 'files [0-9.]+', 'files …'), hint FROM flashsale.health();
CREATE FUNCTION t.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
SELECT severity, problem, regexp_replace(detail, 'library of .*', 'library of …'), hint FROM flashsale.health();
SELECT flashsale.get_order(1);
ROLLBACK;
-- Files of a version that the extension cannot be updated to, since it is an earlier one.
BEGIN;
UPDATE pg_extension SET extversion = '0.2.99' WHERE extname = 'flashsale';
SELECT severity, problem, regexp_replace(detail, 'files [0-9.]+', 'files …'), hint FROM flashsale.health();
ROLLBACK;
SELECT * FROM flashsale.health();

-- Without the library's file: first that, and what needs no library.
\c
BEGIN;
UPDATE pg_proc SET probin = '$libdir/gone' WHERE probin = 'flashsale';
ALTER EVENT TRIGGER flashsale_guard DISABLE;
SELECT severity, problem, regexp_replace(detail, 'fit: .*', 'fit: …'), hint FROM flashsale.health();
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
