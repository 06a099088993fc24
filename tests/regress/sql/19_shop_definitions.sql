-- What a shop may change about orders and items has its say in every purchase: defaults, CHECKs,
-- sequences, generated columns, children, row security, rules, triggers, indexes, replica identity.
SET flashsale.protect_data = off;
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();
SELECT flashsale.create_item(100, item_id => 1);
CREATE FUNCTION t.buy(user_id text, quantity bigint DEFAULT 1) RETURNS text LANGUAGE sql AS $$
    SELECT t.error(format('SELECT flashsale.purchase_item(1, %L, %s) ->> ''remaining_inventory''', user_id, quantity)) $$;
CREATE FUNCTION t.buy_two(one text, other text) RETURNS text LANGUAGE sql AS $$
    SELECT t.error(format('SELECT jsonb_path_query_array(flashsale.purchase_batch(%L), ''$[*].remaining_inventory'')',
        jsonb_build_array(jsonb_build_object('item_id', 1, 'user_id', one), jsonb_build_object('item_id', 1, 'user_id', other)))) $$;
-- One order is paid for and refunded, one cancelled.
CREATE FUNCTION t.moves(user_id text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    paid CONSTANT bigint := flashsale.purchase_item(1, user_id) ->> 'order_id';
    cancelled CONSTANT bigint := flashsale.purchase_item(1, user_id) ->> 'order_id';
BEGIN
    RETURN concat_ws(' ', flashsale.begin_payment(paid) ->> 'status', flashsale.confirm_order(paid) ->> 'status',
                     flashsale.refund_order(paid) ->> 'status', flashsale.cancel_order(cancelled, 'no longer wanted') ->> 'status');
END $$;
SELECT t.buy('alice'), t.buy_two('alice', 'alice'), t.moves('alice');
SELECT status, units_held, paying_at IS NULL, payment_deadline IS NULL, confirmed_at IS NULL, closed_at IS NULL, closed_by = session_user, close_reason
FROM flashsale.orders WHERE user_id = 'alice' ORDER BY order_id;

-- As installed, tables are accessed directly, unless that is turned off: only a statement calls the CHECKs' functions.
SET track_functions = 'all';
BEGIN;
SELECT t.buy('alan'), t.buy_two('alan', 'alan'), t.moves('alan');
SELECT current_setting('flashsale.direct_access') = CASE WHEN EXISTS (SELECT FROM pg_stat_xact_user_functions
    WHERE funcname IN ('stock_adds_up', 'units_add_up')) THEN 'off' ELSE 'on' END AS is_as_set;
ROLLBACK;
-- Under REPEATABLE READ statements do all of it.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT t.buy('adam');
SELECT count(*) FROM pg_stat_xact_user_functions WHERE funcname IN ('stock_adds_up', 'units_add_up');
ROLLBACK;
RESET track_functions;

-- Another default of the id, and one of a column that a purchase does not name.
CREATE SEQUENCE t.other_ids START 5000;
ALTER TABLE flashsale.orders ALTER order_id SET DEFAULT nextval('t.other_ids');
SELECT t.buy('bob'), t.buy_two('bob', 'bob');
SELECT order_id, close_reason FROM flashsale.orders WHERE user_id = 'bob' ORDER BY 1;
ALTER TABLE flashsale.orders ALTER order_id SET DEFAULT flashsale.next_id('flashsale.orders_order_id_seq'), ALTER close_reason SET DEFAULT 'not yet';
BEGIN;
SELECT t.buy('bill'), t.buy_two('bill', 'bill');
SELECT close_reason FROM flashsale.orders WHERE user_id = 'bill';
ROLLBACK;
ALTER TABLE flashsale.orders ALTER close_reason DROP DEFAULT;

-- The sequence under another name.
ALTER SEQUENCE flashsale.orders_order_id_seq RENAME TO numbers;
SELECT t.buy('carol'), t.buy_two('carol', 'carol');
ALTER SEQUENCE flashsale.numbers RENAME TO orders_order_id_seq;

-- Stricter CHECKs under the names of ours.
ALTER TABLE flashsale.items DROP CONSTRAINT items_inventory_range,
    ADD CONSTRAINT items_inventory_range CHECK (flashsale.stock_adds_up(inventory, stock) AND inventory >= 90);
SELECT t.buy('dave'), t.buy('dave'), t.buy_two('dave', 'dave');
ALTER TABLE flashsale.items DROP CONSTRAINT items_inventory_range,
    ADD CONSTRAINT items_inventory_range CHECK (flashsale.stock_adds_up(inventory, stock));
ALTER TABLE flashsale.orders DROP CONSTRAINT orders_units_held,
    ADD CONSTRAINT orders_units_held CHECK (flashsale.units_add_up(status, quantity, units_held) AND user_id <> 'erin');
SELECT t.buy('erin'), t.buy_two('erin', 'frank'), t.buy('frank');
ALTER TABLE flashsale.orders ADD CONSTRAINT no_refunds CHECK (status <> 'refunded' OR user_id <> 'frank');
SELECT t.error($$SELECT t.moves('frank')$$);
ALTER TABLE flashsale.orders DROP CONSTRAINT no_refunds;
ALTER TABLE flashsale.orders DROP CONSTRAINT orders_units_held,
    ADD CONSTRAINT orders_units_held CHECK (flashsale.units_add_up(status, quantity, units_held));

-- CHECKs on the table that a row lies in.
ALTER TABLE flashsale.items ADD CONSTRAINT here CHECK (tableoid = 'flashsale.items'::regclass);
BEGIN;
SELECT t.buy('greta'), t.buy_two('greta', 'greta');
ROLLBACK;
ALTER TABLE flashsale.orders ADD CONSTRAINT here CHECK (tableoid = 'flashsale.orders'::regclass);
SELECT t.buy('grace'), t.buy_two('grace', 'grace');
ALTER TABLE flashsale.items DROP CONSTRAINT here;
ALTER TABLE flashsale.orders DROP CONSTRAINT here;

-- The seller has sold before the CHECK is there, and learns of it from this session.
SELECT flashsale.create_item(10, item_id => 2);
SELECT flashsale.purchase_item(2, 'walt', strategy => 'grouped') ->> 'remaining_inventory';
ALTER TABLE flashsale.orders ADD CONSTRAINT nobody_called_zoe CHECK (user_id <> 'zoe');
\set VERBOSITY terse
SELECT flashsale.purchase_item(2, 'zoe', strategy => 'grouped') ->> 'remaining_inventory';
ALTER TABLE flashsale.orders DROP CONSTRAINT nobody_called_zoe;
ALTER TABLE flashsale.items ADD CONSTRAINT keep_nine CHECK (item_id <> 2 OR inventory >= 9);
SELECT flashsale.purchase_item(2, 'zoe', strategy => 'grouped') ->> 'remaining_inventory';
\set VERBOSITY default
ALTER TABLE flashsale.items DROP CONSTRAINT keep_nine;
SELECT flashsale.purchase_item(2, 'zoe', strategy => 'grouped') ->> 'remaining_inventory';

-- Triggers of statements and of rows, before and after; one has the last word on a row, one refuses it.
CREATE TABLE t.seen (nth serial, what text);
CREATE FUNCTION t.see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.seen (what) VALUES (format('%s %s %s', TG_WHEN, TG_LEVEL, TG_OP));
    IF TG_LEVEL = 'ROW' AND TG_WHEN = 'BEFORE' THEN
        IF TG_TABLE_NAME = 'orders' THEN
            NEW.close_reason := 'seen';
            IF NEW.user_id = 'heidi' THEN RETURN NULL; END IF;
        END IF;
        RETURN NEW;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER a BEFORE INSERT OR UPDATE ON flashsale.orders FOR EACH STATEMENT EXECUTE FUNCTION t.see();
CREATE TRIGGER b BEFORE INSERT OR UPDATE ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.see();
CREATE TRIGGER c AFTER INSERT OR UPDATE ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.see();
CREATE TRIGGER d AFTER INSERT ON flashsale.orders REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION t.see();
CREATE TRIGGER a BEFORE UPDATE ON flashsale.items FOR EACH STATEMENT EXECUTE FUNCTION t.see();
CREATE TRIGGER b BEFORE UPDATE ON flashsale.items FOR EACH ROW EXECUTE FUNCTION t.see();
CREATE TRIGGER c AFTER UPDATE ON flashsale.items FOR EACH STATEMENT EXECUTE FUNCTION t.see();
CREATE TRIGGER a AFTER INSERT ON flashsale.payments FOR EACH ROW EXECUTE FUNCTION t.see();
SELECT t.buy('heidi'), t.buy('ivan');
SELECT what FROM t.seen ORDER BY nth;
SELECT close_reason FROM flashsale.orders WHERE user_id = 'ivan';
TRUNCATE t.seen;
SELECT t.moves('ivan');
SELECT what, count(*) FROM t.seen GROUP BY 1 ORDER BY 1;
DROP TRIGGER a ON flashsale.orders;
DROP TRIGGER b ON flashsale.orders;
DROP TRIGGER c ON flashsale.orders;
DROP TRIGGER d ON flashsale.orders;
DROP TRIGGER a ON flashsale.items;
DROP TRIGGER b ON flashsale.items;
DROP TRIGGER c ON flashsale.items;
DROP TRIGGER a ON flashsale.payments;

-- One that suppresses the moves of an order: nothing changes, and the error says why.
BEGIN;
CREATE FUNCTION t.suppress() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
SELECT flashsale.confirm_order((flashsale.purchase_item(1, 'ines') ->> 'order_id')::bigint) ->> 'status',
       flashsale.purchase_item(1, 'jack') ->> 'status';
CREATE TRIGGER a BEFORE UPDATE ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION t.suppress();
SELECT t.error(format('SELECT flashsale.%s', call)) FROM flashsale.orders,
    unnest(CASE user_id WHEN 'ines' THEN '{refund_order(%s)}'::text[] ELSE '{begin_payment(%s),confirm_order(%s),cancel_order(%s)}' END) AS c (pattern),
    format(pattern, order_id) AS call WHERE user_id IN ('ines', 'jack') ORDER BY call COLLATE "C";
SELECT user_id, status FROM flashsale.orders WHERE user_id IN ('ines', 'jack') ORDER BY 1;
ROLLBACK;

-- Rules. They are rolled back: a table that has had rules counts as one with rules until VACUUM.
TRUNCATE t.seen;
BEGIN;
CREATE RULE noted AS ON INSERT TO flashsale.orders DO ALSO INSERT INTO t.seen (what) VALUES ('order of ' || NEW.user_id);
CREATE RULE noted AS ON UPDATE TO flashsale.items DO ALSO INSERT INTO t.seen (what) VALUES ('item ' || NEW.item_id);
SELECT t.buy('judy');
SELECT what FROM t.seen ORDER BY nth;
ROLLBACK;

-- Indexes: one more unique, one on an expression.
CREATE UNIQUE INDEX once ON flashsale.orders (user_id) WHERE user_id IN ('kate', 'liam');
CREATE INDEX shouted ON flashsale.orders (upper(user_id));
CREATE INDEX loud ON flashsale.orders (upper(status)) WHERE user_id = 'max';
SELECT t.buy('kate'), t.buy('kate'), t.buy_two('liam', 'liam'), t.moves('max');
SET enable_seqscan = off;
SELECT upper(status), count(*) FROM flashsale.orders WHERE user_id = 'max' GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM flashsale.orders WHERE upper(user_id) = 'KATE';
RESET enable_seqscan;
DROP INDEX flashsale.once, flashsale.shouted, flashsale.loud;

-- Items whose only index is no primary key, or a primary key of two columns.
ALTER TABLE flashsale.items DROP CONSTRAINT items_pkey, ADD CONSTRAINT other_key UNIQUE (item_id);
SELECT t.buy('nora'), t.buy_two('nora', 'nora');
ALTER TABLE flashsale.items DROP CONSTRAINT other_key, ADD CONSTRAINT other_key PRIMARY KEY (item_id, created_at);
SELECT t.buy('nora'), t.buy_two('nora', 'nora');
ALTER TABLE flashsale.items DROP CONSTRAINT other_key, ADD CONSTRAINT items_pkey PRIMARY KEY (item_id);

-- Publications: a row that cannot be told apart may not be updated.
SET client_min_messages = error; -- wal_level
CREATE PUBLICATION t_items FOR TABLE flashsale.items;
RESET client_min_messages;
ALTER TABLE flashsale.items REPLICA IDENTITY NOTHING;
SELECT t.buy('mallory');
ALTER TABLE flashsale.items REPLICA IDENTITY FULL;
SELECT t.buy('mallory');
ALTER TABLE flashsale.items REPLICA IDENTITY DEFAULT;
DROP PUBLICATION t_items;

-- Row security, where who owns the function is bound by it.
CREATE ROLE t_owner;
GRANT USAGE ON SCHEMA flashsale TO t_owner;
GRANT ALL ON ALL TABLES IN SCHEMA flashsale TO t_owner;
GRANT ALL ON ALL SEQUENCES IN SCHEMA flashsale TO t_owner;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA flashsale TO t_owner; -- the CHECKs'
GRANT CREATE ON SCHEMA flashsale TO t_owner;
ALTER FUNCTION flashsale.purchase_item(bigint, text, bigint, text, text) OWNER TO t_owner;
ALTER TABLE flashsale.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY nobody_called_nick ON flashsale.orders USING (true) WITH CHECK (user_id <> 'nick');
SELECT t.buy('nick'), t.buy('olga');
DROP POLICY nobody_called_nick ON flashsale.orders;
ALTER TABLE flashsale.orders DISABLE ROW LEVEL SECURITY;
ALTER TABLE flashsale.items ENABLE ROW LEVEL SECURITY;
CREATE POLICY others ON flashsale.items USING (item_id <> 1);
SELECT t.error($$ SELECT flashsale.purchase_item(1, 'olga') ->> 'reason' $$);
DROP POLICY others ON flashsale.items;
ALTER TABLE flashsale.items DISABLE ROW LEVEL SECURITY;
ALTER FUNCTION flashsale.purchase_item(bigint, text, bigint, text, text) OWNER TO CURRENT_USER;
DROP OWNED BY t_owner;
DROP ROLE t_owner;

-- Children.
CREATE TABLE t.more_items () INHERITS (flashsale.items);
CREATE TABLE t.more_orders () INHERITS (flashsale.orders);
INSERT INTO t.more_items (item_id, inventory, stock) VALUES (8, 2, 2);
BEGIN;
SELECT flashsale.purchase_item(8, 'pat') ->> 'remaining_inventory', t.buy('pat');
SELECT tableoid::regclass, count(*) FROM flashsale.orders WHERE user_id = 'pat' GROUP BY 1;
ROLLBACK;
-- Rows that lie where the item lies, but in the other table, stay as they are.
INSERT INTO t.more_items (item_id, inventory, stock) SELECT 1000 + n, 5, 5 FROM generate_series(1, 60) n;
CREATE FUNCTION t.lies_where_the_item_lies() RETURNS boolean LANGUAGE sql AS $$
    SELECT EXISTS (SELECT FROM ONLY flashsale.items i JOIN t.more_items m ON m.ctid = i.ctid WHERE i.item_id = 1) $$;
VACUUM flashsale.items;
BEGIN;
SELECT t.lies_where_the_item_lies(), t.error($$SELECT flashsale.restock_item(1, 3) ->> 'stock'$$);
ROLLBACK;
BEGIN;
SELECT t.lies_where_the_item_lies(), t.error($$SELECT flashsale.pause_item(1) ->> 'success'$$);
ROLLBACK;
BEGIN;
SELECT t.buy('pat', 2);
UPDATE flashsale.orders SET expires_at = now() - interval '1 minute' WHERE user_id = 'pat';
SELECT t.lies_where_the_item_lies(), t.error($$SELECT flashsale.reconcile_stale_reservations() ->> 'restored'$$), t.stock(1);
SELECT count(*) FROM t.more_items WHERE item_id > 1000 AND (inventory, stock, paused) IS DISTINCT FROM (5, 5, false);
ROLLBACK;
DROP TABLE t.more_items, t.more_orders;

-- A foreign key that refers to the status.
ALTER TABLE flashsale.orders ADD CONSTRAINT by_status UNIQUE (order_id, status);
CREATE TABLE t.parcels (order_id bigint, status text, FOREIGN KEY (order_id, status) REFERENCES flashsale.orders (order_id, status));
SELECT flashsale.purchase_item(1, 'paula') ->> 'order_id' AS paula \gset
INSERT INTO t.parcels VALUES (:paula, 'reserved');
SELECT t.error(format('SELECT flashsale.begin_payment(%s)', :paula)), t.error(format('SELECT flashsale.cancel_order(%s)', :paula));
DROP TABLE t.parcels;
ALTER TABLE flashsale.orders DROP CONSTRAINT by_status;
SELECT flashsale.cancel_order(:paula) ->> 'status';

SELECT t.stock(1);
SELECT * FROM flashsale.audit();

-- Generated columns leave a trace in the tables when they are gone, so these come last, and then new tables.
ALTER TABLE flashsale.items ADD COLUMN sold bigint GENERATED ALWAYS AS (stock - inventory) STORED;
ALTER TABLE flashsale.orders ADD COLUMN total bigint GENERATED ALWAYS AS (quantity * 3) STORED;
SELECT t.buy('quinn', 2), t.buy_two('quinn', 'quinn');
SELECT sold = stock - inventory AS adds_up FROM flashsale.items WHERE item_id = 1;
SELECT quantity, total FROM flashsale.orders WHERE user_id = 'quinn' ORDER BY order_id;
ALTER TABLE flashsale.items DROP COLUMN sold;
ALTER TABLE flashsale.orders DROP COLUMN total;
DROP TABLE t.seen;
DROP FUNCTION t.see(), t.buy(text, bigint), t.buy_two(text, text), t.moves(text);
DROP EXTENSION flashsale;
CREATE EXTENSION flashsale;
