-- Updates the extension from 0.1.0 to 0.2.0: ALTER EXTENSION flashsale UPDATE TO '0.2.0'.
--
-- Whatever the install script of 0.2.0 makes differently is changed here, in the order of that
-- script, with the same statements where possible. tests/regress/sql/24_upgrade.sql compares the
-- catalog afterwards with that of a new installation.
--
-- What PUBLIC, and whoever the shop's default privileges name, may do with a new object is revoked right after it is
-- created, by revoke_all. A GRANT or REVOKE on an
-- object that 0.1.0 made, or a grant of the shop's that is carried over to a new object, needs own_privileges.

\echo Use "ALTER EXTENSION flashsale UPDATE TO '0.2.0'" to load this file. \quit

-- flashsale.direct_access is a setting that the library of 0.1.0 does not have.
LOAD 'MODULE_PATHNAME';
DO $$
BEGIN
    IF pg_catalog.current_setting('flashsale.direct_access', true) IS NULL THEN
        RAISE EXCEPTION 'this session has loaded the library of flashsale 0.1.0'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Restart the server if flashsale is in shared_preload_libraries, else connect again; then update.';
    END IF;
END $$;

-- With every GRANT and REVOKE in a script, PostgreSQL notes all privileges that the object has by then as
-- the extension's own, and pg_dump leaves those out. So the shop's own grants are taken out of that note.
CREATE PROCEDURE flashsale.own_privileges(class regclass, object oid, own aclitem[])
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE pg_init_privs SET initprivs = own WHERE classoid = class AND objoid = object AND objsubid = 0;
    DELETE FROM pg_shdepend WHERE classid = class AND objid = object AND deptype = 'i' -- of the note, from 17 on
        AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database());
$$;

CREATE PROCEDURE flashsale.revoke_all(kind text, VARIADIC objects text[])
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT o.object, r.role
        FROM unnest(objects) AS o (object),
        LATERAL (SELECT 'PUBLIC' AS role
                 UNION SELECT a.grantee::regrole::text FROM pg_proc p, aclexplode(p.proacl) a
                 WHERE kind = 'FUNCTION' AND p.oid = to_regprocedure(o.object) AND a.grantee NOT IN (0, p.proowner)
                 UNION SELECT a.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) a
                 WHERE kind = 'TABLE' AND c.oid = to_regclass(o.object) AND a.grantee NOT IN (0, c.relowner)) r
    LOOP
        EXECUTE format('REVOKE ALL ON %s %s FROM %s', kind, granted.object, granted.role);
    END LOOP;
END $$;

-- Whoever may call a function of 0.1.0 may call the one that replaces it. Nobody else may.
CREATE PROCEDURE flashsale.carry_over_grants(old regprocedure, new regprocedure)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own aclitem[];
    granted record;
BEGIN
    CALL flashsale.revoke_all('FUNCTION', new::text);
    own := (SELECT proacl FROM pg_proc WHERE oid = new);
    FOR granted IN
        SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS role, a.is_grantable
        FROM pg_proc p, aclexplode(p.proacl) a WHERE p.oid = old AND a.grantee <> p.proowner
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s%s', new, granted.role,
            CASE WHEN granted.is_grantable THEN ' WITH GRANT OPTION' END);
    END LOOP;
    CALL flashsale.own_privileges('pg_proc'::regclass, new::oid, own);
END $$;

-- PostgreSQL would not drop the old ones either, but would not say what to do.
DO $$
DECLARE
    dependent CONSTANT text := (
        SELECT pg_catalog.string_agg(DISTINCT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid), ', ')
        FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_constraint k ON k.conrelid = 'flashsale.orders'::regclass AND k.contype = 'p'
        WHERE d.deptype = 'n' AND (
            d.refclassid = 'pg_catalog.pg_constraint'::regclass AND d.refobjid = k.oid
            OR d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = k.conindid
            OR d.refclassid = 'pg_catalog.pg_proc'::regclass AND d.refobjid IN (
                'flashsale.purchase_batch(jsonb)'::regprocedure, 'flashsale.restock_item(bigint, bigint, text)'::regprocedure)));
BEGIN
    IF dependent IS NOT NULL THEN
        RAISE EXCEPTION 'the update replaces what these depend on: %', dependent
            USING ERRCODE = 'dependent_objects_still_exist',
                HINT = 'Drop them, update, and create them again; a foreign key then refers to flashsale.orders (order_id).';
    END IF;
END $$;

-- Tables: items, orders, payments and stock movements.

CREATE FUNCTION flashsale.new_ref_code() RETURNS text
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'new_ref_code_wrapper';
COMMENT ON FUNCTION flashsale.new_ref_code() IS 'DEFAULT: ten random characters of Crockford''s base 32, from PostgreSQL''s strong source.';
CALL flashsale.revoke_all('FUNCTION', 'flashsale.new_ref_code()');

-- The place of this server among several, in at most one row; without a row it is the only one. A table,
-- because pg_dump takes its rows along, as it does the positions of the sequences, but not their INCREMENT.
CREATE TABLE flashsale.node (
    is_only boolean NOT NULL DEFAULT true PRIMARY KEY,
    node    integer NOT NULL,
    nodes   integer NOT NULL,
    CONSTRAINT node_is_only CHECK (is_only),
    CONSTRAINT node_range CHECK (node >= 0 AND node < nodes AND nodes <= 1024)
);

COMMENT ON TABLE flashsale.node IS 'The place of this server among several, written by set_node. No row: this is the only server.';
COMMENT ON COLUMN flashsale.node.is_only IS 'True: there is one row at most.';
COMMENT ON COLUMN flashsale.node.node IS 'Number of this server, from 0. Its ids leave this remainder when divided by nodes.';
COMMENT ON COLUMN flashsale.node.nodes IS 'Number of servers.';

-- Each session remembers the row.
CREATE FUNCTION flashsale.forget_node() RETURNS trigger
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'forget_node_wrapper';
COMMENT ON FUNCTION flashsale.forget_node() IS 'Trigger: has all sessions read the place of this server again.';
CREATE TRIGGER forget_node AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON flashsale.node
    FOR EACH STATEMENT EXECUTE FUNCTION flashsale.forget_node();
-- Also when a subscription copies the table.
ALTER TABLE flashsale.node ENABLE ALWAYS TRIGGER forget_node;

CREATE FUNCTION flashsale.next_id(sequence regclass) RETURNS bigint
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'next_id_wrapper';
COMMENT ON FUNCTION flashsale.next_id(regclass) IS 'DEFAULT: the next number of a sequence, times nodes, plus node, as set_node has set them; without, that number. Errors: 2200H for an id above 2^53 - 1.';
CALL flashsale.revoke_all('TABLE', 'flashsale.node');
CALL flashsale.revoke_all('FUNCTION', 'flashsale.forget_node()', 'flashsale.next_id(regclass)');
ALTER TABLE flashsale.items ALTER item_id SET DEFAULT flashsale.next_id('flashsale.items_item_id_seq');
ALTER TABLE flashsale.orders ALTER order_id SET DEFAULT flashsale.next_id('flashsale.orders_order_id_seq');
ALTER TABLE flashsale.payments ALTER payment_id SET DEFAULT flashsale.next_id('flashsale.payments_payment_id_seq');
ALTER TABLE flashsale.stock_movements ALTER movement_id SET DEFAULT flashsale.next_id('flashsale.stock_movements_movement_id_seq');
SELECT pg_catalog.pg_extension_config_dump('flashsale.node', '');

DO $$
DECLARE twice text := (SELECT string_agg(order_id::text, ', ') FROM (
    SELECT order_id FROM flashsale.orders GROUP BY order_id HAVING count(*) > 1 ORDER BY order_id LIMIT 10) o);
BEGIN
    IF twice IS NOT NULL THEN
        RAISE EXCEPTION 'several orders have the id %', twice
            USING ERRCODE = 'unique_violation',
                HINT = 'From 0.2.0 on an id is unique. Give all but one of them new ids, and the payments that are theirs, which know an order only by its id; then update.';
    END IF;
END $$;
ALTER TABLE flashsale.orders
    DROP CONSTRAINT orders_pkey,
    ADD PRIMARY KEY (order_id),
    ADD COLUMN ref_code text COLLATE "C" NOT NULL DEFAULT flashsale.new_ref_code(); -- another one for each order
COMMENT ON COLUMN flashsale.orders.ref_code IS 'The random part of its ref, which is order_id || ''-'' || ref_code. The ref names the order outside: at the gateway, in links and e-mails.';
ALTER TABLE flashsale.payments
    ALTER order_id DROP NOT NULL,
    ADD COLUMN order_ref text COLLATE "C";
CREATE UNIQUE INDEX payments_order_ref ON flashsale.payments (order_ref, payment_ref) NULLS NOT DISTINCT
    WHERE order_ref IS NOT NULL;
COMMENT ON COLUMN flashsale.payments.order_ref IS 'The ref that the charge was reported for, if it names no order; else NULL.';
COMMENT ON FUNCTION flashsale.payment_adds_up(text, text, boolean, boolean, text, text, bigint) IS
'CHECK: a payment is paid; or due, with a reason and a time; or refunded, with both and the time of the refund. refs have 1 to 255 bytes; amount is not negative.';
COMMENT ON TABLE flashsale.items IS 'What is sold, one row for each item. inventory and stock change only through functions.';
COMMENT ON COLUMN flashsale.items.unit_price IS 'Price of one unit in minor units of currency (cents). NULL: the application decides on prices.';
COMMENT ON COLUMN flashsale.items.name IS 'Name for display, 1 to 255 bytes.';
ALTER TABLE flashsale.items
    ADD COLUMN cancelled_units bigint NOT NULL DEFAULT 0,
    ADD COLUMN expired_units   bigint NOT NULL DEFAULT 0,
    ADD COLUMN refunded_units  bigint NOT NULL DEFAULT 0;
UPDATE flashsale.items i
SET cancelled_units = o.cancelled, expired_units = o.expired, refunded_units = o.refunded
FROM (SELECT item_id,
             coalesce(sum(quantity) FILTER (WHERE status = 'cancelled'), 0) AS cancelled,
             coalesce(sum(quantity) FILTER (WHERE status = 'expired'), 0)   AS expired,
             coalesce(sum(quantity) FILTER (WHERE status = 'refunded'), 0)  AS refunded
      FROM flashsale.orders GROUP BY item_id) o
WHERE o.item_id = i.item_id;
COMMENT ON COLUMN flashsale.items.cancelled_units IS 'Units of its cancelled orders.';
COMMENT ON COLUMN flashsale.items.expired_units IS 'Units of its expired orders.';
COMMENT ON COLUMN flashsale.items.refunded_units IS 'Units of its refunded orders.';
COMMENT ON TABLE flashsale.orders IS 'One buyer''s claim on units of one item, one row for each order. Changed only through functions.';
COMMENT ON COLUMN flashsale.orders.expires_at IS 'When the reservation expires.';
COMMENT ON COLUMN flashsale.orders.payment_deadline IS 'When an order that is still in paying appears in payment_checks.';
COMMENT ON COLUMN flashsale.orders.user_id IS 'The buyer, as identified by the application, 1 to 255 bytes.';
CREATE INDEX orders_item_expiry ON flashsale.orders (item_id, expires_at) WHERE status = 'reserved';
COMMENT ON TABLE flashsale.payments IS 'One row for each charge that was reported. Each pays exactly one confirmed order, is due for refund, or was refunded.';
COMMENT ON COLUMN flashsale.payments.order_id IS 'The order that the charge was reported for; if it was reported by its id, it may not exist. NULL: order_ref names no order.';
COMMENT ON COLUMN flashsale.payments.amount IS 'Amount charged in minor units, as reported. NULL: not reported, so the order''s price.';
COMMENT ON COLUMN flashsale.payments.currency IS 'Currency charged, as reported. NULL: not reported, so the order''s.';
COMMENT ON COLUMN flashsale.payments.due_since IS 'When it became due for refund.';
COMMENT ON TABLE flashsale.stock_movements IS 'Every change of an item''s stock. Rows are only added; the deltas of an item add up to its stock.';
COMMENT ON COLUMN flashsale.stock_movements.delta IS 'Units added, or removed if negative.';
COMMENT ON COLUMN flashsale.stock_movements.reason IS 'Why the stock changed.';
COMMENT ON COLUMN flashsale.stock_movements.moved_by IS 'Database user that changed it.';
COMMENT ON COLUMN flashsale.stock_movements.created_at IS 'When the stock changed.';
ALTER TABLE flashsale.stock_movements
    ADD COLUMN idempotency_key text COLLATE "C",
    ADD COLUMN stock_after     bigint,
    ADD COLUMN inventory_after bigint;
CREATE UNIQUE INDEX stock_movements_idempotency_key ON flashsale.stock_movements (item_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
COMMENT ON COLUMN flashsale.stock_movements.idempotency_key IS 'The same key for the same item is the same movement, 1 to 255 bytes.';
COMMENT ON COLUMN flashsale.stock_movements.stock_after IS 'Stock of the item after a movement with a key.';
COMMENT ON COLUMN flashsale.stock_movements.inventory_after IS 'Free units of the item after a movement with a key.';
COMMENT ON FUNCTION flashsale.guard_items() IS 'Trigger: an item with orders cannot be deleted, and no item can be given another id.';
-- Payments belong to orders by their ids, and a new order could get an old id.
CREATE FUNCTION flashsale.guard_orders() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM flashsale.payments) THEN
        RAISE EXCEPTION 'orders cannot be truncated without their payments'
            USING ERRCODE = 'restrict_violation', HINT = 'TRUNCATE flashsale.orders, flashsale.payments';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION flashsale.guard_orders() IS 'Trigger: orders cannot be truncated while payments are left.';

CREATE TRIGGER guard_orders_truncate AFTER TRUNCATE ON flashsale.orders
    FOR EACH STATEMENT EXECUTE FUNCTION flashsale.guard_orders();
CALL flashsale.revoke_all('FUNCTION', 'flashsale.guard_orders()');
COMMENT ON FUNCTION flashsale.check_item() IS 'Trigger: checks all rules of an item except those of its inventory.';
COMMENT ON FUNCTION flashsale.raise_version() IS 'Trigger: a change of price, window, pause or limit raises version, as a sale does.';

-- Buyer functions.

COMMENT ON FUNCTION flashsale.purchase_item(bigint, text, bigint, text, text) IS
'Reserves quantity units of an item for a user, until expires_at. If it succeeds, it locks the item''s row until the end of the transaction. If that row is locked already, the strategy decides (default: the setting flashsale.strategy): nowait answers busy at once, atomic waits flashsale.lock_wait, optimistic tries again and answers conflict. Under grouped this session locks nothing, and the seller commits the purchase.
Success: order_id, order_ref, item_id, quantity, status, remaining_inventory, expires_at, unit_price, currency, replayed.
Reasons: item_not_found, out_of_stock, busy, conflict, sale_not_started, sale_ended, sale_paused, user_limit_reached, idempotency_key_reused, order_cancelled, order_expired, order_refunded.
Errors: 22004 for a NULL item_id, user_id or quantity; 22023 for a quantity below 1, a text not of 1 to 255 bytes, an unknown strategy; only under grouped: 25001 in a transaction block, 55000 without preload or outside flashsale.database, 08007 if the outcome cannot be known.';
CREATE FUNCTION flashsale.purchase_batch(requests jsonb, strategy text DEFAULT NULL) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'purchase_batch_by_strategy_wrapper';
COMMENT ON FUNCTION flashsale.purchase_batch(jsonb, text) IS
'Up to 1,000 independent purchases in one transaction, for an application that gathers its users'' clicks: an array of objects with item_id, user_id (text or whole number), quantity (default 1) and idempotency_key (may be left out). Each item is locked once, in ascending order of ids, as purchase_item does under the strategy (default: the setting flashsale.strategy), but under grouped as under atomic: in the caller''s transaction, waiting for locked items up to flashsale.lock_wait in all.
Returns an array of answers in the order of the requests, each as from purchase_item; one that fails changes nothing for the others.
Errors, before anything changes: 22004 for NULL, or a NULL item_id, user_id or quantity; 22023 for anything but an array of such objects, for more than 1,000 of them, for an unknown field or strategy, and where purchase_item has it; 22003 for a number out of the range of bigint.';
CALL flashsale.carry_over_grants('flashsale.purchase_batch(jsonb)', 'flashsale.purchase_batch(jsonb, text)');
DROP FUNCTION flashsale.purchase_batch(jsonb);
COMMENT ON FUNCTION flashsale.begin_payment(bigint, interval) IS
'Call before charging: from then on the order does not expire by itself. The order is listed in payment_checks after payment_window (default: the setting flashsale.payment_window; at most 7 days); a repeat never extends it. Locks the order.
Success: order_id, status (paying), payment_deadline.
Reasons: order_not_found, order_expired, order_cancelled, order_refunded, already_confirmed, busy.
Errors: 22004 for a NULL order_id, 22023 for a payment_window not above 0 and at most 7 days.';
COMMENT ON FUNCTION flashsale.confirm_order(bigint, text, bigint, text) IS
'Reports a charge that succeeded. It becomes the only payment of the order, or is recorded as due for refund. An expired order takes its units again if they are free. Locks the order, and the item too if an expired order is reinstated.
Success: order_id, status (confirmed), already_confirmed, reinstated.
Reasons, each but busy with refund_required: order_not_found, order_expired, order_cancelled, order_refunded, duplicate_payment, payment_ref_in_use, amount_mismatch, busy.
Errors: 22004 for a NULL order_id; 22023 for a payment_ref not of 1 to 255 bytes or a NULL one where a different charge was reported without one, a negative amount, a currency that is not three letters; 22003 for an amount above 2^53 - 1.';
COMMENT ON FUNCTION flashsale.get_order(bigint) IS
'Returns one order with its payments. Locks nothing.
Success: order_id, order_ref, item_id, user_id, quantity, status, unit_price, currency, total, idempotency_key, times of its moves, close_reason, payments.
Reasons: order_not_found. Errors: 22004 for NULL.';
COMMENT ON FUNCTION flashsale.user_orders(text) IS
'Returns the user''s orders, newest first, 100 at most, each as from get_order. Locks nothing.
Success: user_id, orders. Reasons: user_not_found (no order at all). Errors: 22004 for NULL, 22023 for a text not of 1 to 255 bytes.';
COMMENT ON FUNCTION flashsale.find_payment(text) IS
'Returns the status of one charge. Locks nothing.
Success: payment_ref, order_id (null if the ref that it was reported for names no order), order_ref, status (paid, due, refunded), why, amount, currency, created_at, due_since, refunded_at, refund_ref.
Reasons: payment_not_found. Errors: 22004 for NULL, 22023 for a text not of 1 to 255 bytes.';
COMMENT ON FUNCTION flashsale.item_availability(bigint) IS
'Returns what a shop page shows about an item. Locks nothing.
Success: item_id, name, available (can be bought now), state (on_sale, sold_out, not_started, ended, paused), remaining_inventory, unit_price, currency, max_per_user, starts_at, ends_at.
Reasons: item_not_found. Errors: 22004 for NULL.';
CREATE FUNCTION flashsale.begin_payment(order_ref text, payment_window interval DEFAULT NULL) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'begin_payment_by_ref_wrapper';
COMMENT ON FUNCTION flashsale.begin_payment(text, interval) IS
'As begin_payment with order_id, for an order''s ref; digits alone are an order id.';
CALL flashsale.revoke_all('FUNCTION', 'flashsale.begin_payment(text, interval)');
CREATE FUNCTION flashsale.confirm_order(
    order_ref text, payment_ref text DEFAULT NULL,
    amount bigint DEFAULT NULL, currency text DEFAULT NULL) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'confirm_order_by_ref_wrapper';
COMMENT ON FUNCTION flashsale.confirm_order(text, text, bigint, text) IS
'As confirm_order with order_id, for an order''s ref; digits alone are an order id. A charge for a ref that names no order is recorded as due, with that ref.';
CALL flashsale.revoke_all('FUNCTION', 'flashsale.confirm_order(text, text, bigint, text)');
CREATE FUNCTION flashsale.cancel_order(order_ref text, reason text DEFAULT NULL) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cancel_order_by_ref_wrapper';
COMMENT ON FUNCTION flashsale.cancel_order(text, text) IS
'As cancel_order with order_id, for an order''s ref; digits alone are an order id.';
CALL flashsale.revoke_all('FUNCTION', 'flashsale.cancel_order(text, text)');
CREATE FUNCTION flashsale.get_order(order_ref text) RETURNS jsonb
LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'get_order_by_ref_wrapper';
COMMENT ON FUNCTION flashsale.get_order(text) IS
'As get_order with order_id, for an order''s ref; digits alone are an order id.';
CALL flashsale.revoke_all('FUNCTION', 'flashsale.get_order(text)');

-- Operator functions.

COMMENT ON FUNCTION flashsale.create_item(bigint, text, bigint, text, integer, timestamptz, timestamptz, interval, bigint) IS
'Puts a new item on sale with inventory units and returns its id; unit_price is in minor units of currency, reservation_ttl 1 second to 7 days. Writes the first stock movement. Locks nothing, but waits for a transaction that creates the same id.
Errors: 22004 for a NULL inventory; 22023 for a negative number, a reversed window, a malformed currency, an item_id that is taken or of another node; 22003 for numbers above 2^53 - 1; 55P03 after a wait of flashsale.lock_wait.';
CREATE FUNCTION flashsale.restock_item(
    item_id bigint, delta bigint, reason text DEFAULT NULL, idempotency_key text DEFAULT NULL) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'restock_item_with_key_wrapper';
COMMENT ON FUNCTION flashsale.restock_item(bigint, bigint, text, text) IS
'Adds delta units to an item, or removes free units, and if needed those of stale reservations, if delta is negative; records a row in stock_movements. A repeat with the same idempotency_key for the same item moves nothing and returns what the first call did. Locks the item, waiting up to flashsale.lock_wait.
Success: item_id, delta, stock, remaining_inventory, replayed.
Reasons: item_not_found, not_enough_free (with remaining_inventory), idempotency_key_reused (with another delta), busy.
Errors: 22004 for a NULL item_id or delta; 22023 for a delta of 0, a text not of 1 to 255 bytes; 22003 if the stock, or the price of the whole stock, would be above 2^53 - 1.';
CALL flashsale.carry_over_grants('flashsale.restock_item(bigint, bigint, text)', 'flashsale.restock_item(bigint, bigint, text, text)');
DROP FUNCTION flashsale.restock_item(bigint, bigint, text);
COMMENT ON FUNCTION flashsale.reconcile_stale_reservations(interval, integer) IS
'Expires up to max_orders (1 to 100000) reserved orders past expires_at, or with older_than those created longer ago than that, and restores their units. Never changes an order in paying. It skips orders and items that are locked, so it waits for no row, and several sessions may call it at once.
Success: expired (orders), restored (units), skipped (stale orders passed over, since they or their item were locked, since they had changed meanwhile, or since a trigger or constraint keeps them from expiring, of which a WARNING names the first ten), payment_checks (orders in paying past their deadline), more (call again).
Reasons: busy. Errors: 22004 for a NULL max_orders, 22023 for a negative older_than or a max_orders out of range.';
COMMENT ON FUNCTION flashsale.refund_order(bigint, boolean) IS
'Refunds a confirmed order: its payment becomes due for refund, and its units return to inventory, or with restock => false are removed from the stock. Final and idempotent. Locks the order, its payment, then the item.
Success: order_id, status (refunded), restored (units), written_off (units), already_refunded.
Reasons: order_not_found, order_not_confirmed (with status), busy. Errors: 22004 for NULL.';
COMMENT ON FUNCTION flashsale.refund_payment(text, text) IS
'Reports that a payment due for refund was refunded at the gateway, under refund_ref. Changes neither order nor stock; idempotent. Locks the payment.
Success: payment_ref, order_id, order_ref, status (refunded), refund_ref, already_refunded.
Reasons: payment_not_found, payment_not_due (it pays a confirmed order), busy. Errors: 22004 for a NULL payment_ref, 22023 for a text not of 1 to 255 bytes.';
CREATE FUNCTION flashsale.set_node(node integer, nodes integer) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'set_node_wrapper';
COMMENT ON FUNCTION flashsale.set_node(integer, integer) IS
'Makes this server node, from 0, of so many nodes: the ids that it assigns leave the remainder node when divided by nodes, and a call for an item or order of another node is error 22023. Once there are items, the new place must be a part of the old one: nodes a multiple, with the same remainder. Runs with the caller''s rights: call it as the owner of the extension. Waits for all transactions that write to the tables, up to flashsale.lock_wait for each table, and keeps others from it until the transaction ends.
Errors: 22004 for NULL; 22023 for nodes below 1 or above 1024, a node not below nodes, a place that is no part of the old one; 55P03 if a lock was not obtained.';
CALL flashsale.revoke_all('FUNCTION', 'flashsale.set_node(integer, integer)');
COMMENT ON FUNCTION flashsale.grant_operator(regrole) IS
'Lets a role call the operator functions, confirm and cancel orders, read everything, and change an item''s name, price, window and limits, but write nothing else. Runs with the caller''s rights, as grant_app.';
COMMENT ON FUNCTION flashsale.read_stats() IS
'Returns what the view stats shows: counters of the whole server, not of this database. Reads only shared memory. Errors: 55000 without preload.';
CREATE FUNCTION flashsale.refund_order(order_ref text, restock boolean DEFAULT true) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'refund_order_by_ref_wrapper';
COMMENT ON FUNCTION flashsale.refund_order(text, boolean) IS
'As refund_order with order_id, for an order''s ref; digits alone are an order id.';
CALL flashsale.revoke_all('FUNCTION', 'flashsale.refund_order(text, boolean)');

-- Views and the audit.

CREATE OR REPLACE VIEW flashsale.payment_checks AS
SELECT order_id, item_id, user_id, quantity, unit_price * quantity AS amount, currency,
       paying_at, payment_deadline, clock_timestamp() - payment_deadline AS overdue,
       order_id || '-' || ref_code AS order_ref
FROM flashsale.orders
WHERE status = 'paying' AND payment_deadline <= clock_timestamp();
COMMENT ON COLUMN flashsale.payment_checks.order_ref IS 'Its ref: under this the gateway knows the charge, if the application passes refs to it.';
CREATE OR REPLACE VIEW flashsale.refunds_due AS
SELECT p.payment_ref, p.order_id, o.user_id,
       coalesce(p.amount, o.unit_price * o.quantity) AS amount, coalesce(p.currency, o.currency) AS currency,
       p.due_since, p.why, coalesce(p.order_ref, o.order_id || '-' || o.ref_code) AS order_ref
FROM flashsale.payments p
-- An order that got the id later has nothing to do with the charge.
LEFT JOIN flashsale.orders o ON o.order_id = p.order_id AND p.why <> 'order_not_found'
WHERE p.status = 'due';
COMMENT ON COLUMN flashsale.refunds_due.order_ref IS 'The ref of the order; if why is order_not_found, the ref that was reported, or NULL if an id was.';
COMMENT ON FUNCTION flashsale.item_state(bigint, timestamptz, timestamptz, boolean) IS
'Whether an item can be bought now, and if not, why. If several reasons apply: the first in the order of purchase_item.';
CREATE OR REPLACE VIEW flashsale.item_status AS
SELECT i.item_id, i.name,
       flashsale.item_state(f.units, i.starts_at, i.ends_at, i.paused) AS state,
       i.stock, f.units AS inventory,
       coalesce(r.live, 0)::bigint AS reserved,
       coalesce(p.units, 0)::bigint AS paying,
       i.stock - f.units - coalesce(r.live, 0)::bigint - coalesce(p.units, 0)::bigint AS confirmed,
       i.cancelled_units::numeric AS cancelled,
       i.expired_units::numeric   AS expired,
       i.refunded_units::numeric  AS refunded,
       i.unit_price, i.currency, i.max_per_user, i.starts_at, i.ends_at
FROM flashsale.items i
-- Each of the two has an index of its own, orders_expiry and orders_payment_deadline.
LEFT JOIN (SELECT item_id, sum(quantity) FILTER (WHERE expires_at > statement_timestamp()) AS live,
                  sum(quantity) FILTER (WHERE expires_at <= statement_timestamp()) AS stale
           FROM flashsale.orders WHERE status = 'reserved' GROUP BY item_id) r USING (item_id)
LEFT JOIN (SELECT item_id, sum(quantity) AS units FROM flashsale.orders
           WHERE status = 'paying' GROUP BY item_id) p USING (item_id)
-- Who buys gets the units of stale reservations, too.
CROSS JOIN LATERAL (SELECT i.inventory + coalesce(r.stale, 0)::bigint AS units) f;
COMMENT ON VIEW flashsale.item_status IS 'One row for each item, with the number of its units in each state: inventory + reserved + paying + confirmed = stock. The units of reservations that have expired count as free, whether or not the reconciler has expired them. Reads only orders that are reserved or paying.';
COMMENT ON COLUMN flashsale.item_status.inventory IS 'Units free to reserve, with those of expired reservations.';
COMMENT ON COLUMN flashsale.item_status.reserved IS 'Units reserved, as long as the reservation lasts.';
COMMENT ON COLUMN flashsale.item_status.name IS 'Name for display.';
COMMENT ON VIEW flashsale.payment_checks IS 'Orders in paying past their deadline: ask the gateway about the charge, then call confirm_order or cancel_order.';
COMMENT ON COLUMN flashsale.payment_checks.order_id IS 'The order to confirm or cancel.';
COMMENT ON COLUMN flashsale.payment_checks.payment_deadline IS 'When it appeared here.';
COMMENT ON VIEW flashsale.refunds_due IS 'One row for each charge that is due for refund: refund it at the gateway, then call refund_payment. A charge without a payment_ref gets it from confirm_order(order_id, payment_ref).';
COMMENT ON COLUMN flashsale.refunds_due.payment_ref IS 'The gateway''s id of the charge to refund. NULL: not reported yet.';
COMMENT ON COLUMN flashsale.refunds_due.order_id IS 'The order that it was reported for, which may not exist. NULL: order_ref names no order.';
COMMENT ON COLUMN flashsale.refunds_due.amount IS 'The amount to refund, in minor units: as reported, else the order''s price.';
-- audit() and audit(item_id) read this. A condition on item_id reaches every part of it, so that orders of other
-- items are neither joined nor summed up. Orders have no index by item, so the rules are gathered into few scans.
CREATE VIEW flashsale.broken_invariants AS
    SELECT b.invariant, i.item_id, NULL::bigint AS order_id, NULL::text AS payment_ref, b.detail
    FROM (SELECT i.item_id, i.inventory, i.stock, o.held, m.moved,
                 format('cancelled %s, expired %s, refunded %s', i.cancelled_units, i.expired_units, i.refunded_units) AS counted,
                 format('cancelled %s, expired %s, refunded %s',
                        coalesce(o.cancelled, 0), coalesce(o.expired, 0), coalesce(o.refunded, 0)) AS closed,
                 i.inventory + coalesce(o.held, 0) <> i.stock AS units_are_off,
                 coalesce(m.moved, 0) <> i.stock AS movements_are_off,
                 i.inventory < 0 OR i.inventory > i.stock AS inventory_is_off,
                 (i.cancelled_units, i.expired_units, i.refunded_units)
                     <> (coalesce(o.cancelled, 0), coalesce(o.expired, 0), coalesce(o.refunded, 0)) AS counts_are_off
          FROM flashsale.items i
          LEFT JOIN (SELECT item_id, sum(units_held) AS held,
                            sum(quantity) FILTER (WHERE status = 'cancelled') AS cancelled,
                            sum(quantity) FILTER (WHERE status = 'expired')   AS expired,
                            sum(quantity) FILTER (WHERE status = 'refunded')  AS refunded
                     FROM flashsale.orders GROUP BY item_id) o USING (item_id)
          LEFT JOIN (SELECT item_id, sum(delta) AS moved FROM flashsale.stock_movements GROUP BY item_id) m
              USING (item_id)) i
    CROSS JOIN LATERAL (VALUES
        ('units_add_up_to_stock', i.units_are_off,
         format('inventory %s + held %s <> stock %s', i.inventory, coalesce(i.held, 0), i.stock)),
        ('movements_add_up_to_stock', i.movements_are_off,
         format('movements %s <> stock %s', coalesce(i.moved, 0), i.stock)),
        ('inventory_within_stock', i.inventory_is_off, format('inventory %s, stock %s', i.inventory, i.stock)),
        ('closed_units_match_orders', i.counts_are_off, format('counted %s; of orders %s', i.counted, i.closed))
    ) AS b (invariant, is_broken, detail)
    WHERE (i.units_are_off OR i.movements_are_off OR i.inventory_is_off OR i.counts_are_off) AND b.is_broken
UNION ALL
    SELECT 'order_has_item', o.item_id, o.order_id, NULL, 'no such item'
    FROM flashsale.orders o
    WHERE NOT EXISTS (SELECT FROM flashsale.items i WHERE i.item_id = o.item_id)
UNION ALL
    SELECT b.invariant, o.item_id, o.order_id, NULL, b.detail
    FROM (SELECT item_id, order_id, status, quantity, units_held, confirmed_at, closed_at,
                 units_held <> CASE WHEN status IN ('reserved', 'paying', 'confirmed') THEN quantity ELSE 0 END
                     AS has_wrong_units,
                 status = 'reserved' AND expires_at IS NULL AS never_expires,
                 status = 'paying' AND payment_deadline IS NULL AS has_no_deadline,
                 status NOT IN ('reserved', 'paying', 'confirmed', 'cancelled', 'expired', 'refunded')
                     OR (status = 'confirmed' AND confirmed_at IS NULL)
                     OR (closed_at IS NOT NULL) <> (status IN ('cancelled', 'expired', 'refunded'))
                     AS has_wrong_times,
                 NOT order_id BETWEEN 1 AND 9007199254740991
                     OR ref_code !~ '^[0-9A-HJKMNP-TV-Z]{10}$'
                     OR NOT octet_length(user_id) BETWEEN 1 AND 255
                     OR NOT octet_length(idempotency_key) BETWEEN 1 AND 255
                     AS is_out_of_range
          FROM flashsale.orders) o
    CROSS JOIN LATERAL (VALUES
        ('units_held_match_status', o.has_wrong_units,
         format('%s, quantity %s, units_held %s', o.status, o.quantity, o.units_held)),
        ('reservation_expires', o.never_expires, 'reserved without expires_at'),
        ('paying_has_deadline', o.has_no_deadline, 'paying without payment_deadline'),
        ('order_status', o.has_wrong_times,
         format('%s, confirmed at %s, closed at %s', o.status, o.confirmed_at, o.closed_at)),
        ('order_ids_and_texts', o.is_out_of_range, 'an id or a text out of range')
    ) AS b (invariant, is_broken, detail)
    WHERE (o.has_wrong_units OR o.never_expires OR o.has_no_deadline OR o.has_wrong_times OR o.is_out_of_range)
      AND b.is_broken
UNION ALL
    SELECT 'order_paid_once', (SELECT o.item_id FROM flashsale.orders o WHERE o.order_id = p.order_id),
           p.order_id, NULL, format('%s payments', count(*))
    FROM flashsale.payments p WHERE p.status = 'paid' GROUP BY p.order_id HAVING count(*) > 1
UNION ALL
    SELECT 'confirmed_order_has_payment', o.item_id, o.order_id, NULL, 'confirmed without a payment'
    FROM flashsale.orders o
    WHERE o.status = 'confirmed' AND o.unit_price IS NOT NULL
      AND NOT EXISTS (SELECT FROM flashsale.payments p WHERE p.order_id = o.order_id AND p.status = 'paid')
UNION ALL
    SELECT b.invariant, p.item_id, p.order_id, p.payment_ref, b.detail
    FROM (SELECT o.item_id, o.status AS order_status,
                 p.order_id, p.payment_ref, p.order_ref, p.status, p.due_since, p.refunded_at,
                 p.status = 'paid' AND o.status IS DISTINCT FROM 'confirmed' AS pays_no_confirmed,
                 num_nonnulls(p.order_id, p.order_ref) <> 1
                     OR (p.order_ref IS NOT NULL AND p.why IS DISTINCT FROM 'order_not_found')
                     AS has_not_one_order,
                 p.status NOT IN ('paid', 'due', 'refunded')
                     OR (p.status = 'paid') <> (p.due_since IS NULL)
                     OR (p.status = 'refunded') <> (p.refunded_at IS NOT NULL)
                     AS has_not_one_fate
          FROM flashsale.payments p LEFT JOIN flashsale.orders o USING (order_id)) p
    CROSS JOIN LATERAL (VALUES
        ('payment_pays_confirmed_order', p.pays_no_confirmed,
         format('paid, but the order is %s', coalesce(p.order_status, 'unknown'))),
        ('payment_has_one_order', p.has_not_one_order, format('order_ref %s', p.order_ref)),
        ('payment_has_one_fate', p.has_not_one_fate,
         format('%s, due since %s, refunded at %s', p.status, p.due_since, p.refunded_at))
    ) AS b (invariant, is_broken, detail)
    WHERE (p.pays_no_confirmed OR p.has_not_one_order OR p.has_not_one_fate) AND b.is_broken;
COMMENT ON VIEW flashsale.broken_invariants IS 'What audit() returns.';
COMMENT ON COLUMN flashsale.broken_invariants.invariant IS 'What should be true.';
COMMENT ON COLUMN flashsale.broken_invariants.item_id IS 'The item. NULL: a payment whose order does not exist.';
COMMENT ON COLUMN flashsale.broken_invariants.order_id IS 'The order, if it is about one.';
COMMENT ON COLUMN flashsale.broken_invariants.payment_ref IS 'The payment, if it is about one that has a ref.';
COMMENT ON COLUMN flashsale.broken_invariants.detail IS 'What is the case instead.';
CALL flashsale.revoke_all('TABLE', 'flashsale.broken_invariants');
CREATE OR REPLACE FUNCTION flashsale.audit(OUT invariant text, OUT item_id bigint, OUT order_id bigint, OUT payment_ref text, OUT detail text)
RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET jit = off -- compiling would take a second, and save less than that
AS $$ SELECT * FROM flashsale.broken_invariants $$;
COMMENT ON FUNCTION flashsale.audit() IS
'One row for each broken invariant, none if all is well. It is one statement with one snapshot, so it is exact during a sale too. Reads every order and payment; locks nothing.';
CREATE FUNCTION flashsale.audit(item_id bigint) RETURNS SETOF flashsale.broken_invariants
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
    IF audit.item_id IS NULL THEN
        RAISE EXCEPTION 'item_id must not be NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    -- Planned for this item each time, because one can have ten orders or most of them.
    RETURN QUERY EXECUTE 'SELECT * FROM flashsale.broken_invariants b WHERE b.item_id = $1' USING audit.item_id;
    IF NOT FOUND AND NOT EXISTS (SELECT FROM flashsale.items i WHERE i.item_id = audit.item_id) THEN
        RAISE EXCEPTION 'item_id is %: there is no such item', audit.item_id USING ERRCODE = 'invalid_parameter_value';
    END IF;
END $$;
COMMENT ON FUNCTION flashsale.audit(bigint) IS
'As audit(), of one item: its orders, their payments and its stock movements. Errors: 22004 for NULL, 22023 if there is no such item.';
CALL flashsale.revoke_all('FUNCTION', 'flashsale.audit(bigint)');
COMMENT ON VIEW flashsale.stats IS
'Counters since the server started or stats_reset(), of all databases. purchases: answers by strategy and outcome. gate: hits, and how often an item was shut. seller: batches, requests, largest_batch, queue_wait_seconds (sum), longest_queue_wait_seconds, waiting and oldest_wait_seconds (now), errors. reconciler: runs, expired, errors, backlog (stale orders that the last run passed over), last_run (seconds since 1970). stats: reset (seconds since 1970). Error 55000 without preload.';

-- The guard of the orders against DDL.

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
CALL flashsale.revoke_all('FUNCTION', 'flashsale.load_guard()');

-- What needs a person.

CREATE FUNCTION flashsale.health_of_library(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- A session looks for the library's file once, and for the control file each time; a removal deletes both.
    PERFORM flashsale.stock_adds_up(0::bigint, 0::bigint);
    PERFORM FROM pg_extension_update_paths('flashsale');
EXCEPTION WHEN OTHERS THEN
    RETURN QUERY SELECT 'error', 'library_missing', 'files of flashsale are missing or do not fit: ' || SQLERRM,
        'Install the package again, in the version of the extension, before the server is restarted: it does not start without a library that it preloads.';
END $$;
COMMENT ON FUNCTION flashsale.health_of_library() IS 'Part of health(): whether the library is there.';

CREATE FUNCTION flashsale.health_of_version(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    advice text;
BEGIN
    BEGIN
        -- It compares versions before it looks at its argument.
        PERFORM flashsale.get_order(NULL::bigint);
    EXCEPTION WHEN null_value_not_allowed THEN
        NULL;
    WHEN object_not_in_prerequisite_state THEN
        GET STACKED DIAGNOSTICS advice = PG_EXCEPTION_HINT;
        RETURN QUERY SELECT 'error', 'other_version', 'every call fails: ' || SQLERRM, advice;
        RETURN;
    END;
    RETURN QUERY SELECT CASE WHEN l.is_preloaded THEN 'warning' ELSE 'error' END, 'other_version',
        format('the extension in this database has version %s, the installed files %s; %s', x.installed_version, x.default_version,
               CASE WHEN l.is_preloaded THEN 'until a restart the server goes on with the library that it has loaded' ELSE 'calls in new sessions fail' END),
        CASE WHEN p.path IS NULL THEN format('Install the package of version %s again, before the server is restarted.', x.installed_version)
             WHEN l.is_preloaded THEN 'Restart the server, and at once call ALTER EXTENSION flashsale UPDATE, in each database that has the extension: between the two every call fails.'
             ELSE 'Call ALTER EXTENSION flashsale UPDATE in a new session.' END
    FROM pg_available_extensions x
    LEFT JOIN pg_extension_update_paths('flashsale') p ON p.source = x.installed_version AND p.target = x.default_version
    CROSS JOIN (SELECT EXISTS (SELECT FROM pg_settings s WHERE s.name = 'flashsale.database' AND s.context = 'postmaster')) AS l (is_preloaded)
    WHERE x.name = 'flashsale' AND x.installed_version <> x.default_version;
END $$;
COMMENT ON FUNCTION flashsale.health_of_version() IS 'Part of health(): whether library, files and database have the same version.';

CREATE FUNCTION flashsale.health_of_service(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- The name in flashsale.database, if the library is preloaded.
    served text;
    is_pending boolean;
    -- Somebody has strategy grouped, which fails without workers.
    is_grouped boolean;
    failing text;
    remedy text;
BEGIN
    SELECT max(s.setting) FILTER (WHERE s.name = 'flashsale.database' AND s.context = 'postmaster'),
           bool_or(s.name IN ('shared_preload_libraries', 'flashsale.database') AND s.pending_restart),
           bool_or(s.name = 'flashsale.strategy' AND s.reset_val = 'grouped')
               OR EXISTS (SELECT FROM pg_db_role_setting r LEFT JOIN pg_database d ON d.oid = r.setdatabase, unnest(r.setconfig) AS c (setting)
                          WHERE lower(c.setting) = 'flashsale.strategy=grouped' AND (r.setdatabase = 0 OR d.datname = current_database()))
    INTO served, is_pending, is_grouped
    FROM pg_settings s;
    failing := CASE WHEN is_grouped THEN ', and purchases fail for all who have flashsale.strategy = grouped' ELSE '' END;
    remedy := CASE WHEN is_pending THEN 'Restart the server, whose configuration has been changed; if this row stays, preload flashsale and set flashsale.database to this database'
                   WHEN served IS NULL THEN 'Preload it and restart the server'
                   ELSE 'Set flashsale.database to this database and restart the server' END
        || ', or call flashsale.reconcile_stale_reservations() every few seconds'
        || CASE WHEN is_grouped THEN ' and set flashsale.strategy to another one' ELSE '' END || '.';
    IF served IS NULL THEN
        RETURN QUERY SELECT CASE WHEN is_grouped THEN 'error' ELSE 'warning' END, 'not_preloaded',
            'flashsale is not in shared_preload_libraries: there are no workers' || failing, remedy;
    ELSIF served <> current_database() THEN
        RETURN QUERY SELECT CASE WHEN is_grouped THEN 'error' ELSE 'warning' END, 'other_database',
            CASE WHEN EXISTS (SELECT FROM pg_database d WHERE d.datname = served) THEN format('the workers serve database %I', served)
                 ELSE format('flashsale.database is %I, which does not exist, so the workers serve none', served) END || failing, remedy;
    ELSIF EXISTS (SELECT FROM pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid
                  WHERE c.relnamespace = 'flashsale'::regnamespace) THEN
        RETURN QUERY SELECT 'warning', 'copy_of_subscription', 'a subscription writes the tables, so the workers leave them alone',
            'To sell here, drop the subscription and set the sequences past the ids in the tables.';
    END IF;
END $$;
COMMENT ON FUNCTION flashsale.health_of_service() IS 'Part of health(): whether workers serve this database.';

CREATE FUNCTION flashsale.health_of_workers(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'error', 'worker_missing', format('there is no flashsale %s', w.worker),
        'If it does not come within seconds, raise max_worker_processes and restart the server, and see the server''s log.'
    FROM unnest(ARRAY['launcher', 'seller', 'publisher', 'reconciler']) AS w (worker)
    WHERE NOT pg_is_in_recovery() AND pg_has_role('pg_read_all_stats', 'USAGE')
      AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.backend_type = 'flashsale ' || w.worker)
UNION ALL
    SELECT 'warning', 'queue_full', format('%s calls wait for the seller', s.value),
        'The seller does not keep up: look for slow triggers on flashsale.orders, and for locked items; flashsale.queue_size bounds the queue.'
    FROM flashsale.read_stats() s
    WHERE s.subject = 'seller' AND s.name = 'waiting' AND s.value >= 0.75 * current_setting('flashsale.queue_size')::int
UNION ALL
    SELECT 'error', 'seller_slow', format('a call has waited for the seller for %s s', round(s.value::numeric, 1)),
        format('Its callers get busy. See what process %s (flashsale seller) does, in pg_stat_activity and whether it is stopped; look for slow triggers on flashsale.orders.',
               (SELECT a.pid FROM pg_stat_activity a WHERE a.backend_type = 'flashsale seller'))
    FROM flashsale.read_stats() s
    WHERE s.subject = 'seller' AND s.name = 'oldest_wait_seconds'
      AND s.value > 0.5 * extract(epoch FROM current_setting('flashsale.group_wait')::interval)
$$;
COMMENT ON FUNCTION flashsale.health_of_workers() IS 'Part of health(): the workers that serve this database.';

CREATE FUNCTION flashsale.health_of_work(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'error', 'stale_reservations',
        format('%s orders are reserved though they have expired, the oldest since %s', CASE WHEN count(*) > 1000 THEN 'more than 1000' ELSE count(*)::text END, min(o.expires_at)),
        'Nobody expires them: call flashsale.reconcile_stale_reservations() every few seconds, or see why the reconciler does not; the server''s log says so.'
    FROM (SELECT i.expires_at FROM flashsale.orders i
          WHERE i.status = 'reserved'
            AND i.expires_at < clock_timestamp() - interval '1 minute' - coalesce(current_setting('flashsale.reconcile_interval', true), '10s')::interval
            AND NOT EXISTS (SELECT FROM pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid
                            WHERE c.relnamespace = 'flashsale'::regnamespace)
          ORDER BY i.expires_at LIMIT 1001) o
    HAVING count(*) > 0
UNION ALL
    SELECT 'warning', 'payment_checks_overdue',
        format('%s orders have been in paying for more than 10 minutes after their deadline, the oldest since %s', CASE WHEN count(*) > 1000 THEN 'more than 1000' ELSE count(*)::text END, min(o.payment_deadline)),
        'For each row of flashsale.payment_checks ask the gateway, then call confirm_order or cancel_order.'
    FROM (SELECT i.payment_deadline FROM flashsale.orders i
          WHERE i.status = 'paying' AND i.payment_deadline < clock_timestamp() - interval '10 minutes'
          ORDER BY i.payment_deadline LIMIT 1001) o
    HAVING count(*) > 0
UNION ALL
    SELECT 'warning', 'refunds_overdue',
        format('%s charges have been due for refund for more than an hour, the oldest since %s', CASE WHEN count(*) > 1000 THEN 'more than 1000' ELSE count(*)::text END, min(p.due_since)),
        'Refund each row of flashsale.refunds_due at the gateway, then call refund_payment.'
    FROM (SELECT i.due_since FROM flashsale.payments i
          WHERE i.status = 'due' AND i.due_since < clock_timestamp() - interval '1 hour'
          ORDER BY i.due_since LIMIT 1001) p
    HAVING count(*) > 0
$$;
COMMENT ON FUNCTION flashsale.health_of_work() IS 'Part of health(): work that nobody does.';

CREATE FUNCTION flashsale.health_of_sessions(moment timestamptz, OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    -- A foreign key locks an item FOR KEY SHARE, which blocks no sale; its transaction has also written the table that refers to items.
    SELECT DISTINCT 'error', 'items_locked',
        format('process %s (%s) has locked or changed items, in a transaction since %s', a.pid, a.state, a.xact_start),
        format('Its items are not sold meanwhile. Let it commit, or end it: SELECT pg_terminate_backend(%s).', a.pid)
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.relation = 'flashsale.items'::regclass AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND l.granted AND l.mode NOT IN ('AccessShareLock', 'ShareUpdateExclusiveLock')
      AND NOT (l.mode = 'RowShareLock' AND EXISTS (
          SELECT FROM pg_locks w JOIN pg_constraint k ON k.conrelid = w.relation
          WHERE w.pid = l.pid AND w.database = l.database AND w.granted AND w.mode = 'RowExclusiveLock'
            AND k.contype = 'f' AND k.confrelid = l.relation))
      AND a.pid <> pg_backend_pid() AND a.xact_start < moment - interval '5 seconds'
UNION ALL
    -- A snapshot is in the way if many transactions have ended since. The xmin of VACUUM is not.
    SELECT 'warning', 'old_snapshot',
        format('%s keeps row versions from being removed, for %s transactions by now', h.holder, h.age),
        'Each sale leaves a version of its item''s row. ' || h.hint
    FROM (SELECT format('the snapshot of process %s (%s, %s), in a transaction since %s,', a.pid, coalesce(a.usename, a.backend_type), a.state, a.xact_start),
                 age(a.backend_xmin), 'End it, or run it on a standby without hot_standby_feedback.'
          FROM pg_stat_activity a
          WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
            AND age(a.backend_xmin) > 1000 AND a.xact_start < moment - interval '1 minute'
            AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)
          UNION ALL
          SELECT format('standby %s (process %s)', r.application_name, r.pid), age(r.backend_xmin),
                 'End long queries on the standby, or set hot_standby_feedback to off there.'
          FROM pg_stat_replication r WHERE age(r.backend_xmin) > 100000
          UNION ALL
          SELECT format('replication slot %s (%s)', s.slot_name, CASE WHEN s.active THEN 'active' ELSE 'inactive' END),
                 greatest(age(s.xmin), age(s.catalog_xmin)),
                 format('Let its standby or subscriber go on, or drop it: SELECT pg_drop_replication_slot(%L).', s.slot_name)
          FROM pg_replication_slots s
          WHERE greatest(age(s.xmin), age(s.catalog_xmin)) > CASE WHEN s.active THEN 100000 ELSE 1000 END) AS h (holder, age, hint)
UNION ALL
    SELECT 'warning', 'idle_in_transaction', format('process %s (%s) is idle in a transaction for more than a minute, since %s', a.pid, a.usename, a.state_change),
        'It may hold locks, and keeps row versions from being removed. Set idle_in_transaction_session_timeout.'
    FROM pg_stat_activity a
    WHERE a.state LIKE 'idle in transaction%' AND a.datname = current_database() AND a.state_change < moment - interval '1 minute'
UNION ALL
    SELECT 'warning', 'prepared_transaction', format('transaction %L is prepared since %s', x.gid, x.prepared),
        'It holds its locks until COMMIT PREPARED or ROLLBACK PREPARED.'
    FROM pg_prepared_xacts x WHERE x.database = current_database() AND x.prepared < moment - interval '1 minute'
$$;
COMMENT ON FUNCTION flashsale.health_of_sessions(timestamptz) IS 'Part of health(): sessions and standbys in the way of others, as of a moment.';

CREATE FUNCTION flashsale.health_of_commits(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.severity, s.setting || '_off', s.detail, 'Set ' || s.setting || ' to on.'
    FROM (VALUES ('error', 'fsync', 'a crash of the machine can lose or corrupt everything'),
                 ('error', 'full_page_writes', 'a crash of the machine can corrupt tables'),
                 ('warning', 'synchronous_commit', 'a crash can lose the orders and payments of the last moments, though their calls succeeded')) AS s (severity, setting, detail)
    JOIN pg_settings g ON g.name = s.setting
    WHERE g.reset_val = 'off'
UNION ALL
    SELECT 'warning', 'synchronous_commit_off',
        format('role %I has %s, so a crash or failover can lose orders and payments of calls that succeeded', r.rolname, c.setting),
        format('ALTER ROLE %I %sRESET synchronous_commit', r.rolname, 'IN DATABASE ' || quote_ident(d.datname) || ' ')
    FROM pg_db_role_setting s
    JOIN pg_roles r ON r.oid = s.setrole
    LEFT JOIN pg_database d ON d.oid = s.setdatabase
    CROSS JOIN LATERAL unnest(s.setconfig) AS c (setting)
    WHERE (s.setdatabase = 0 OR d.datname = current_database())
      AND lower(c.setting) ~ ('^synchronous_commit=(off|false|no|0' || CASE current_setting('synchronous_standby_names') WHEN '' THEN '' ELSE '|local' END || ')$')
UNION ALL
    SELECT 'warning', 'not_synchronous', 'synchronous_standby_names is set, but synchronous_commit = ' || g.reset_val || ' waits for no standby',
        'A failover can lose orders. Set synchronous_commit to on.'
    FROM pg_settings g
    WHERE g.name = 'synchronous_commit' AND g.reset_val IN ('off', 'local')
      AND current_setting('synchronous_standby_names') <> '' AND NOT pg_is_in_recovery()
UNION ALL
    SELECT 'error', 'standby_missing', format('%s synchronous standbys are connected, but a commit waits for %s, so none returns', n.connected, n.required),
        'Bring the standbys back, or change synchronous_standby_names.'
    FROM (SELECT coalesce(substring(lower(current_setting('synchronous_standby_names'))
                                    FROM '^[[:space:]]*(?:any|first)?[[:space:]]*([0-9]+)[[:space:]]*[(]'), '1')::int AS required,
                 (SELECT count(*) FROM pg_stat_replication r WHERE r.sync_state IN ('sync', 'quorum')) AS connected) n
    JOIN pg_settings g ON g.name = 'synchronous_commit' AND g.reset_val NOT IN ('off', 'local')
    WHERE n.connected < n.required AND current_setting('synchronous_standby_names') <> '' AND NOT pg_is_in_recovery()
$$;
COMMENT ON FUNCTION flashsale.health_of_commits() IS 'Part of health(): commits that can be lost, or do not return.';

CREATE FUNCTION flashsale.id_sequences(OUT relation regclass, OUT id name, OUT sequence regclass) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.oid, i.attname, s.oid
    FROM unnest(ARRAY['flashsale.items'::regclass, 'flashsale.orders', 'flashsale.payments', 'flashsale.stock_movements']) AS t (oid)
    JOIN pg_attribute i ON i.attrelid = t.oid AND i.attnum = 1
    JOIN pg_attrdef a ON a.adrelid = t.oid AND a.adnum = 1
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid AND d.refclassid = 'pg_class'::regclass
    JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
$$;
COMMENT ON FUNCTION flashsale.id_sequences() IS 'Part of health(): the sequence of each table''s ids, whatever its name is by now.';

CREATE FUNCTION flashsale.health_of_ids(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ids record;
    here record;
    newest bigint;
    reached bigint;
BEGIN
    -- An id is the number of its sequence, times nodes, plus node.
    SELECT coalesce(max(n.node), 0) AS node, coalesce(max(n.nodes), 1) AS nodes INTO here FROM flashsale.node n;
    -- Ids stay below 2^53, whatever the sequence allows.
    FOR ids IN SELECT s.relation, s.id, s.sequence, q.seqincrement AS step, q.seqmax AS most,
                      CASE WHEN q.seqincrement > 0 THEN greatest(q.seqmin, 1) ELSE least(q.seqmax, l.number) END AS first,
                      CASE WHEN q.seqincrement > 0 THEN least(q.seqmax, l.number) ELSE greatest(q.seqmin, 1) END AS last
               FROM flashsale.id_sequences() s JOIN pg_sequence q ON q.seqrelid = s.sequence,
                    (VALUES ((9007199254740991 - here.node) / here.nodes)) AS l (number)
    LOOP
        EXECUTE format('SELECT s.last_value - CASE WHEN s.is_called THEN 0 ELSE %s END FROM %s s', ids.step, ids.sequence) INTO reached;
        -- Rows of other nodes may have been moved here.
        EXECUTE format('SELECT max(t.%1$I) FROM %2$s t WHERE t.%1$I %% %3$s = %4$s', ids.id, ids.relation, here.nodes, here.node) INTO newest;
        -- Ids of items may be chosen.
        IF reached * here.nodes + here.node < newest AND ids.step > 0 AND ids.relation <> 'flashsale.items'::regclass THEN
            RETURN QUERY SELECT 'error', 'sequence_behind',
                format('%s is at %s, but its table at %s', ids.sequence, reached * here.nodes + here.node, newest),
                format('SELECT setval(%L, %s)', ids.sequence, reached + ((newest - here.node) / here.nodes - reached + ids.step - 1) / ids.step * ids.step);
        END IF;
        IF sign(ids.step) * (reached::numeric - ids.first) > 0.9 * abs(ids.last - ids.first) THEN
            RETURN QUERY SELECT 'warning', 'sequence_near_its_end', format('%s is at %s of %s', ids.sequence, reached, ids.last),
                CASE WHEN ids.step > 0 AND ids.most < 9007199254740991 THEN format('ALTER SEQUENCE %s MAXVALUE 9007199254740991', ids.sequence)
                ELSE 'After that nothing can be inserted: find out who has set it that far.' END;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION flashsale.health_of_ids() IS 'Part of health(): the sequences of ids.';

CREATE FUNCTION flashsale.definitions(OUT relation text, OUT kind text, OUT name text) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.relation::regclass::text, o.kind, o.name
    FROM unnest(ARRAY['flashsale.items'::regclass, 'flashsale.orders', 'flashsale.payments', 'flashsale.stock_movements', 'flashsale.node']) AS t (oid),
    LATERAL (
        SELECT t.oid, 'trigger', g.tgname::text FROM pg_trigger g WHERE g.tgrelid = t.oid AND NOT g.tgisinternal
        UNION ALL SELECT t.oid, 'index', i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = t.oid AND x.indisvalid
        UNION ALL SELECT t.oid, 'constraint', k.conname FROM pg_constraint k WHERE k.conrelid = t.oid AND k.contype IN ('c', 'f')
        UNION ALL SELECT t.oid, 'column', a.attname FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL SELECT t.oid, 'NOT NULL of column', a.attname FROM pg_attribute a
            WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
        UNION ALL SELECT t.oid, 'statistics target of column', a.attname FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attstattarget >= 0 AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL SELECT t.oid, 'default of column', format('%s, %s,', a.attname, pg_get_expr(d.adbin, d.adrelid))
            FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            WHERE a.attrelid = t.oid AND NOT EXISTS (SELECT FROM flashsale.id_sequences() s WHERE s.relation = t.oid AND s.id = a.attname)
        UNION ALL SELECT t.oid, 'policy', p.polname FROM pg_policy p WHERE p.polrelid = t.oid
        UNION ALL SELECT t.oid, 'row level security', NULL FROM pg_class c WHERE c.oid = t.oid AND (c.relrowsecurity OR c.relforcerowsecurity)
        UNION ALL SELECT t.oid, 'replica identity', NULL FROM pg_class c WHERE c.oid = t.oid AND c.relreplident <> 'd'
        UNION ALL SELECT t.oid, 'storage parameter', p.option FROM pg_class c, unnest(c.reloptions) AS p (option) WHERE c.oid = t.oid
        UNION ALL SELECT t.oid, 'extended statistics', e.stxname FROM pg_statistic_ext e WHERE e.stxrelid = t.oid
        UNION ALL SELECT t.oid, 'rule', r.rulename FROM pg_rewrite r WHERE r.ev_class = t.oid
        UNION ALL SELECT t.oid, 'parent', h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = t.oid
        UNION ALL SELECT t.oid, 'membership in publication', b.pubname FROM pg_publication_rel r JOIN pg_publication b ON b.oid = r.prpubid
            WHERE r.prrelid = t.oid
        UNION ALL SELECT t.oid, 'sequence', s.sequence::text FROM flashsale.id_sequences() s WHERE s.relation = t.oid
        UNION ALL SELECT s.sequence, v.kind, v.value
            FROM flashsale.id_sequences() s JOIN pg_sequence q ON q.seqrelid = s.sequence,
            LATERAL (VALUES ('INCREMENT', q.seqincrement::text), ('MINVALUE', q.seqmin::text), ('MAXVALUE', q.seqmax::text),
                             ('CACHE', q.seqcache::text), ('CYCLE', q.seqcycle::text)) AS v (kind, value)
            WHERE s.relation = t.oid
        UNION ALL SELECT c.oid, 'owner', c.relowner::regrole::text FROM pg_class c JOIN pg_extension e ON e.extname = 'flashsale'
            WHERE c.oid = t.oid AND c.relowner <> e.extowner
    ) AS o (relation, kind, name)
$$;
COMMENT ON FUNCTION flashsale.definitions() IS 'Part of health(): what the tables and the sequences of ids consist of, as far as a dump does not carry it.';

CREATE FUNCTION flashsale.health_of_dumps(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH here AS MATERIALIZED (SELECT d.relation, d.kind, d.name FROM flashsale.definitions() d),
    own AS MATERIALIZED (
        SELECT 'flashsale.' || p.relation AS relation, p.kind, unnest(p.names) AS name FROM (VALUES
        ('trigger', 'items', '{guard_items,guard_items_truncate,check_item,raise_version}'::text[]),
        ('trigger', 'orders', '{guard_orders_truncate}'),
        ('trigger', 'node', '{forget_node}'),
        ('index', 'items', '{items_pkey}'),
        ('index', 'orders', '{orders_pkey,orders_idempotency_key,orders_holdings,orders_expiry,orders_item_expiry,orders_payment_deadline}'),
        ('index', 'payments', '{payments_pkey,payments_payment_ref_key,payments_order,payments_paid_once,payments_without_ref,payments_order_ref,payments_due_since}'),
        ('index', 'stock_movements', '{stock_movements_pkey,stock_movements_item,stock_movements_idempotency_key}'),
        ('index', 'node', '{node_pkey}'),
        ('constraint', 'items', '{items_inventory_range}'),
        ('constraint', 'orders', '{orders_units_held}'),
        ('constraint', 'payments', '{payments_fate}'),
        ('constraint', 'stock_movements', '{stock_movements_delta}'),
        ('constraint', 'node', '{node_is_only,node_range}'),
        ('column', 'items', '{item_id,inventory,stock,version,paused,max_per_user,starts_at,ends_at,reservation_ttl,unit_price,currency,name,created_at,cancelled_units,expired_units,refunded_units}'),
        ('column', 'orders', '{order_id,item_id,quantity,units_held,unit_price,created_at,expires_at,paying_at,payment_deadline,confirmed_at,closed_at,status,user_id,currency,idempotency_key,closed_by,close_reason,ref_code}'),
        ('column', 'payments', '{payment_id,order_id,payment_ref,amount,currency,status,why,created_at,due_since,refunded_at,refund_ref,order_ref}'),
        ('column', 'stock_movements', '{movement_id,item_id,delta,order_id,reason,moved_by,created_at,idempotency_key,stock_after,inventory_after}'),
        ('column', 'node', '{is_only,node,nodes}'),
        ('NOT NULL of column', 'items', '{item_id,inventory,stock,version,paused,created_at,cancelled_units,expired_units,refunded_units}'),
        ('NOT NULL of column', 'orders', '{order_id,item_id,quantity,units_held,created_at,status,user_id,ref_code}'),
        ('NOT NULL of column', 'payments', '{payment_id,status,created_at}'),
        ('NOT NULL of column', 'stock_movements', '{movement_id,item_id,delta,moved_by,created_at}'),
        ('NOT NULL of column', 'node', '{is_only,node,nodes}'),
        ('default of column', 'items', '{"version, 0,","paused, false,","created_at, clock_timestamp(),","cancelled_units, 0,","expired_units, 0,","refunded_units, 0,"}'),
        ('default of column', 'orders', '{"status, ''reserved''::text,","ref_code, flashsale.new_ref_code(),"}'),
        ('default of column', 'payments', '{"created_at, clock_timestamp(),"}'),
        ('default of column', 'stock_movements', '{"moved_by, SESSION_USER,","created_at, clock_timestamp(),"}'),
        ('default of column', 'node', '{"is_only, true,"}'),
        ('storage parameter', 'items', '{fillfactor=50,autovacuum_vacuum_scale_factor=0.0,autovacuum_vacuum_threshold=1000}'),
        ('storage parameter', 'orders', '{fillfactor=90,autovacuum_vacuum_scale_factor=0.05,autovacuum_analyze_scale_factor=0.05}'),
        ('sequence', 'items', '{flashsale.items_item_id_seq}'),
        ('sequence', 'orders', '{flashsale.orders_order_id_seq}'),
        ('sequence', 'payments', '{flashsale.payments_payment_id_seq}'),
        ('sequence', 'stock_movements', '{flashsale.stock_movements_movement_id_seq}')
        ) AS p (kind, relation, names)
        UNION ALL
        SELECT s.sequence::text, v.kind, v.value
        FROM flashsale.id_sequences() s,
             (VALUES ('INCREMENT', '1'), ('MINVALUE', '1'), ('MAXVALUE', '9007199254740991'), ('CACHE', '1'), ('CYCLE', 'false')) AS v (kind, value)
    ),
    -- A column may have another default, and its sequence another name.
    gone AS (
        SELECT w.relation, w.kind, CASE w.kind WHEN 'default of column' THEN split_part(w.name, ',', 1) WHEN 'sequence' THEN 'of ids' ELSE w.name END AS name FROM own w
        EXCEPT
        SELECT h.relation, h.kind, CASE h.kind WHEN 'default of column' THEN split_part(h.name, ',', 1) WHEN 'sequence' THEN 'of ids' ELSE h.name END FROM here h
    ),
    dumped AS (
        SELECT c.oid, c.oid::regclass::text AS name, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
               c.oid = ANY (e.extconfig) IS TRUE AS is_registered,
               EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                         AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e') AS is_member
        FROM (SELECT unnest(ARRAY[s.relation, s.sequence]) FROM flashsale.id_sequences() s UNION ALL SELECT 'flashsale.node') AS o (oid)
        JOIN pg_class c ON c.oid = o.oid JOIN pg_extension e ON e.extname = 'flashsale'
    )
    SELECT 'warning', 'not_dumped', format('%s of %s', concat_ws(' ', o.kind, o.name), o.relation), CASE o.kind
        WHEN 'INCREMENT' THEN 'pg_dump does not dump it, so in a restored database this server assigns the ids of the others. Keep the ALTER SEQUENCE that made it, to run it again after a restore.'
        ELSE 'pg_dump does not dump it, because the table is the extension''s. Keep the statement that made it, to run it again after a restore.' END
    FROM (SELECT * FROM (SELECT * FROM here EXCEPT SELECT * FROM own) d ORDER BY d.kind COLLATE "C", d.name COLLATE "C") AS o
UNION ALL
    SELECT 'error', 'definition_missing', format('%s of %s is gone', concat_ws(' ', o.kind, o.name), o.relation),
        'Make it again as the extension''s script does: flashsale--' || e.extversion || '.sql, in the folder extension of pg_config --sharedir.'
    FROM (SELECT * FROM gone g ORDER BY g.kind COLLATE "C", g.name COLLATE "C") AS o
    JOIN pg_extension e ON e.extname = 'flashsale'
    WHERE o.kind IN ('trigger', 'index', 'constraint', 'column', 'NOT NULL of column', 'default of column', 'sequence')
UNION ALL
    SELECT 'error', 'not_registered', format('%s is no longer %s, so a dump has no rows of it or cannot be restored', d.name,
            CASE WHEN d.is_member THEN 'registered for pg_dump' ELSE 'a member of the extension' END),
        CASE WHEN NOT d.is_member THEN format('SET flashsale.protect_data = off; ALTER EXTENSION flashsale ADD %s %s; RESET flashsale.protect_data; ', d.kind, d.name) ELSE '' END
        || CASE WHEN NOT d.is_registered THEN format('UPDATE pg_extension SET extconfig = array_append(extconfig, %L::regclass::oid), extcondition = array_append(extcondition, '''') WHERE extname = ''flashsale''', d.name) ELSE '' END
    FROM dumped d WHERE NOT (d.is_member AND d.is_registered)
UNION ALL
    -- A schema that is the extension's own is made anew by CREATE EXTENSION.
    SELECT 'error', 'schema_owner', format('schema flashsale belongs to %I, who is no superuser: restoring a dump would fail', r.rolname),
        format('ALTER SCHEMA flashsale OWNER TO %s', e.extowner::regrole)
    FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner JOIN pg_extension e ON e.extname = 'flashsale'
    WHERE n.nspname = 'flashsale' AND NOT r.rolsuper
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid
                        AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')
$$;
COMMENT ON FUNCTION flashsale.health_of_dumps() IS 'Part of health(): what a dump does not carry, and what is gone of the tables. What the extension itself has is listed here.';

CREATE FUNCTION flashsale.health_of_installation(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'warning', 'sessions_hidden', format('%I owns the extension, but may not see what other sessions do, so health() shows neither missing workers nor sessions in the way', current_user),
        format('GRANT pg_read_all_stats TO %I', current_user)
    WHERE NOT pg_has_role('pg_read_all_stats', 'USAGE')
UNION ALL
    SELECT 'warning', 'data_not_protected', 'flashsale.protect_data is off by default: DROP EXTENSION deletes all orders',
        'Set flashsale.protect_data to on in postgresql.conf.'
    FROM pg_settings s WHERE s.name = 'flashsale.protect_data' AND s.reset_val = 'off'
UNION ALL
    SELECT 'error', 'unlogged', format('%s is UNLOGGED: a crash empties it, and standbys do not have its rows', o.oid),
        format('ALTER %s %s SET LOGGED', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, o.oid)
    FROM (SELECT unnest(ARRAY[s.relation, s.sequence]) FROM flashsale.id_sequences() s UNION ALL SELECT 'flashsale.node') AS o (oid)
    JOIN pg_class c ON c.oid = o.oid AND c.relpersistence = 'u'
UNION ALL
    SELECT 'error', 'trigger_disabled', format('trigger %I of %s is disabled, so nothing holds its rules', g.tgname, g.tgrelid::regclass),
        format('ALTER TABLE %s ENABLE TRIGGER %I', g.tgrelid::regclass, g.tgname)
    FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_proc p ON p.oid = g.tgfoid
    WHERE c.relnamespace = 'flashsale'::regnamespace AND p.pronamespace = c.relnamespace
      AND NOT g.tgisinternal AND g.tgenabled IN ('D', 'R')
UNION ALL
    SELECT 'warning', 'guard_disabled', format('event trigger %s is %s: who has not loaded the library can drop or change the tables',
            own.name, CASE WHEN g.oid IS NULL THEN 'gone' ELSE 'disabled' END),
        CASE WHEN g.oid IS NULL THEN 'Make it again as the extension''s script does: flashsale--' || e.extversion || '.sql, in the folder extension of pg_config --sharedir.'
        ELSE format('ALTER EVENT TRIGGER %s ENABLE ALWAYS', own.name) END
    FROM pg_extension e CROSS JOIN unnest('{flashsale_guard,flashsale_guard_end}'::text[]) AS own (name)
    LEFT JOIN pg_event_trigger g ON g.evtname = own.name
    WHERE e.extname = 'flashsale' AND (g.oid IS NULL OR g.evtenabled IN ('D', 'R'))
UNION ALL
    SELECT 'warning', 'event_triggers_off', 'event_triggers is off by default: who has not loaded the library can drop or change the tables',
        'Set event_triggers to on in postgresql.conf.'
    FROM pg_settings s WHERE s.name = 'event_triggers' AND s.reset_val = 'off'
$$;
COMMENT ON FUNCTION flashsale.health_of_installation() IS 'Part of health(): the protection of the data.';

CREATE FUNCTION flashsale.health(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
SET quote_all_identifiers = off -- names are compared as they are written here
AS $$
DECLARE
    part text;
    is_locked boolean := false;
BEGIN
    RETURN QUERY SELECT * FROM flashsale.health_of_library();
    IF NOT FOUND THEN -- else what calls the library fails, and its hints do harm
        RETURN QUERY SELECT * FROM flashsale.health_of_version();
        RETURN QUERY SELECT * FROM flashsale.health_of_service();
        IF NOT FOUND THEN
            RETURN QUERY SELECT * FROM flashsale.health_of_workers();
        END IF;
    END IF;
    RETURN QUERY SELECT * FROM flashsale.health_of_sessions(clock_timestamp());
    RETURN QUERY SELECT * FROM flashsale.health_of_commits();
    RETURN QUERY SELECT * FROM flashsale.health_of_installation();
    -- These read the tables, or what belongs to them. One that fails does not hide what the others find.
    FOREACH part IN ARRAY '{health_of_dumps, health_of_work, health_of_ids}'::text[] LOOP
        BEGIN
            RETURN QUERY EXECUTE format('SELECT * FROM flashsale.%I()', part);
        EXCEPTION WHEN lock_not_available THEN
            is_locked := true;
        WHEN undefined_table OR undefined_column OR undefined_function OR feature_not_supported THEN
            RETURN QUERY SELECT 'error', 'definition_missing', format('%s() fails: %s', part, SQLERRM),
                'Make what is missing again as the extension''s script does, in the folder extension of pg_config --sharedir.';
        END;
    END LOOP;
    IF is_locked THEN
        RETURN QUERY SELECT 'error', 'tables_locked',
            format('%s %s %s on %s, so that nothing is sold, and health() is not complete', coalesce('process ' || a.pid || ' (' || a.state || ')', 'a prepared transaction'),
                   CASE WHEN l.granted THEN 'holds' ELSE 'waits for' END, l.mode, l.relation::regclass),
            coalesce('Let it end, or end it: SELECT pg_terminate_backend(' || a.pid || ').', 'Commit it or roll it back: see pg_prepared_xacts.')
        FROM pg_locks l JOIN pg_class c ON c.oid = l.relation LEFT JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
          AND c.relnamespace = 'flashsale'::regnamespace AND c.relkind IN ('r', 'S', 'i') AND l.mode = 'AccessExclusiveLock';
        IF NOT FOUND THEN
            RETURN QUERY SELECT 'error', 'tables_locked', 'a lock was not obtained within 0.1 seconds, and health() is not complete', 'Call it again.';
        END IF;
    END IF;
END $$;
COMMENT ON FUNCTION flashsale.health() IS
'One row for each thing that needs a person, none if all is well: severity (error or warning), problem, detail, and in hint what to do. Reads catalogs, statistics and the ends of indexes, so it takes tens of milliseconds at any size. Locks nothing, and waits for the lock of a table for 0.1 seconds at most.';
CALL flashsale.revoke_all('FUNCTION', 'flashsale.health_of_library()', 'flashsale.health_of_version()', 'flashsale.health_of_service()', 'flashsale.health_of_workers()', 'flashsale.health_of_work()', 'flashsale.health_of_sessions(timestamptz)', 'flashsale.health_of_commits()', 'flashsale.id_sequences()', 'flashsale.health_of_ids()', 'flashsale.definitions()', 'flashsale.health_of_dumps()', 'flashsale.health_of_installation()', 'flashsale.health()');
GRANT EXECUTE ON FUNCTION flashsale.health() TO pg_monitor;

-- Privileges.

DO $$
DECLARE
    object record;
BEGIN
    FOR object IN
        SELECT i.classoid, i.objoid, i.initprivs || pg_catalog.makeaclitem('pg_monitor'::regrole, e.extowner, v.privilege, false) AS own
        FROM (VALUES
            ('pg_catalog.pg_namespace'::regclass, 'flashsale'::regnamespace::oid, 'USAGE'),
            ('pg_catalog.pg_proc'::regclass, 'flashsale.read_stats()'::regprocedure::oid, 'EXECUTE'),
            ('pg_catalog.pg_class'::regclass, 'flashsale.stats'::regclass::oid, 'SELECT')) AS v (class, object, privilege)
        JOIN pg_catalog.pg_init_privs i ON i.classoid = v.class AND i.objoid = v.object AND i.objsubid = 0
        JOIN pg_catalog.pg_extension e ON e.extname = 'flashsale'
    LOOP
        CASE object.classoid
            WHEN 'pg_catalog.pg_namespace'::regclass THEN GRANT USAGE ON SCHEMA flashsale TO pg_monitor;
            WHEN 'pg_catalog.pg_proc'::regclass THEN GRANT EXECUTE ON FUNCTION flashsale.read_stats() TO pg_monitor;
            ELSE GRANT SELECT ON flashsale.stats TO pg_monitor;
        END CASE;
        CALL flashsale.own_privileges(object.classoid::regclass, object.objoid, object.own);
    END LOOP;
END $$;

DROP PROCEDURE flashsale.carry_over_grants(regprocedure, regprocedure), flashsale.own_privileges(regclass, oid, aclitem[]),
    flashsale.revoke_all(text, text[]);
