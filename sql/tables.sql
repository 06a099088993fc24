-- Tables: items, orders, payments and stock movements, with the rules that a row must obey.

-- Not the schema that CREATE EXTENSION names, in which others may create objects.
SET LOCAL search_path = pg_catalog, pg_temp;

DO $$
DECLARE
    -- Whoever owns the schema can drop what is in it.
    schema_owner CONSTANT text := (SELECT r.rolname FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
                               WHERE n.nspname = 'flashsale' AND r.rolname <> current_user AND NOT r.rolsuper);
    -- Whoever creates functions in it, or has created some, can have them called instead of the extension's.
    guests CONSTANT text := (
        SELECT string_agg(DISTINCT coalesce(r.rolname, 'PUBLIC'), ', ')
        FROM pg_namespace n
        CROSS JOIN LATERAL (
            SELECT grantee AS role FROM aclexplode(n.nspacl) WHERE privilege_type = 'CREATE'
            UNION SELECT proowner FROM pg_proc WHERE pronamespace = n.oid
            UNION SELECT oprowner FROM pg_operator WHERE oprnamespace = n.oid
            UNION SELECT typowner FROM pg_type WHERE typnamespace = n.oid -- tables have types, too
        ) guest
        LEFT JOIN pg_roles r ON r.oid = guest.role
        WHERE n.nspname = 'flashsale' AND guest.role <> n.nspowner AND r.rolsuper IS NOT TRUE);
BEGIN
    IF getdatabaseencoding() <> 'UTF8' THEN
        RAISE EXCEPTION 'flashsale needs a database with encoding UTF8, not %', getdatabaseencoding()
            USING ERRCODE = 'feature_not_supported',
                HINT = 'This makes one: createdb --template=template0 --encoding=UTF8 --locale=C.UTF-8 shop';
    END IF;
    IF schema_owner IS NOT NULL THEN
        RAISE EXCEPTION 'schema flashsale exists and belongs to %', schema_owner
            USING ERRCODE = 'duplicate_schema',
                HINT = 'The extension needs this schema: drop or rename it.';
    END IF;
    IF guests IS NOT NULL THEN
        RAISE EXCEPTION 'schema flashsale exists, and % can create objects in it, or has created some', guests
            USING ERRCODE = 'duplicate_schema',
                HINT = 'The extension needs this schema, with objects of its owner only: drop or rename it, or drop those objects and revoke CREATE.';
    END IF;
    IF to_regnamespace('flashsale') IS NULL THEN
        CREATE SCHEMA flashsale;
    ELSIF NOT EXISTS (SELECT FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
                      WHERE n.nspname = 'flashsale' AND r.rolname = current_user) THEN
        -- The functions act as their owner, who need not be a superuser for ever.
        GRANT USAGE ON SCHEMA flashsale TO CURRENT_USER;
    END IF;
    -- All objects are in the schema flashsale. Where it is the extension's own, the extension counts as
    -- being in pg_catalog, so that it is not dropped with the schema in which it happened to be created.
    IF '@extschema@' <> 'flashsale' THEN
        UPDATE pg_extension SET extnamespace = 'pg_catalog'::regnamespace WHERE extname = 'flashsale';
        DELETE FROM pg_depend WHERE classid = 'pg_extension'::regclass AND refclassid = 'pg_namespace'::regclass
            AND objid = (SELECT oid FROM pg_extension WHERE extname = 'flashsale');
    END IF;
END $$;

COMMENT ON SCHEMA flashsale IS 'Flash-sale inventory: stock, orders and payments that cannot disagree. Begin with \df+ flashsale.*';

-- Ids stay below 2^53, so that JavaScript represents them exactly.
CREATE SEQUENCE flashsale.items_item_id_seq MAXVALUE 9007199254740991;
CREATE SEQUENCE flashsale.orders_order_id_seq MAXVALUE 9007199254740991;
CREATE SEQUENCE flashsale.payments_payment_id_seq MAXVALUE 9007199254740991;
CREATE SEQUENCE flashsale.stock_movements_movement_id_seq MAXVALUE 9007199254740991;

-- CHECKs are the last defence. PostgreSQL parses and plans the text of every CHECK again for every
-- statement that writes. Written as expressions, they would take a tenth of the time of a purchase
-- and a sixth of that of a confirm, so they are functions. Rules that none of our functions can
-- break are left to triggers and audit().
CREATE FUNCTION flashsale.stock_adds_up(inventory bigint, stock bigint) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stock_adds_up_wrapper';
COMMENT ON FUNCTION flashsale.stock_adds_up(bigint, bigint) IS 'CHECK: inventory is neither negative nor more than stock.';

CREATE FUNCTION flashsale.units_add_up(status text, quantity bigint, units_held bigint) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'units_add_up_wrapper';
COMMENT ON FUNCTION flashsale.units_add_up(text, bigint, bigint) IS 'CHECK: the status is known, quantity is positive, and units_held is quantity while the order is reserved, paying or confirmed, else 0.';

CREATE FUNCTION flashsale.payment_adds_up(
    status text, why text, is_due boolean, is_refunded boolean, payment_ref text, refund_ref text, amount bigint)
RETURNS boolean
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'payment_adds_up_wrapper';
COMMENT ON FUNCTION flashsale.payment_adds_up(text, text, boolean, boolean, text, text, bigint) IS
'CHECK: a payment is paid; or due, with a reason and a time; or refunded, with both and the time of the refund. refs have 1 to 255 bytes; amount is not negative.';

CREATE FUNCTION flashsale.new_ref_code() RETURNS text
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'new_ref_code_wrapper';
COMMENT ON FUNCTION flashsale.new_ref_code() IS 'DEFAULT: ten random characters of Crockford''s base 32, from PostgreSQL''s strong source.';

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

-- A purchase changes only inventory and version. No index contains either of them, and pages stay
-- half empty, so each change is a HOT update.
CREATE TABLE flashsale.items (
    item_id         bigint      NOT NULL DEFAULT flashsale.next_id('flashsale.items_item_id_seq') PRIMARY KEY,
    inventory       bigint      NOT NULL,
    stock           bigint      NOT NULL,
    version         bigint      NOT NULL DEFAULT 0,
    paused          boolean     NOT NULL DEFAULT false,
    max_per_user    integer,
    starts_at       timestamptz,
    ends_at         timestamptz,
    reservation_ttl interval,
    unit_price      bigint,
    currency        text,
    name            text,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Counted where the item's row is rewritten anyway, so that item_status need not read closed orders.
    cancelled_units bigint      NOT NULL DEFAULT 0,
    expired_units   bigint      NOT NULL DEFAULT 0,
    refunded_units  bigint      NOT NULL DEFAULT 0,
    CONSTRAINT items_inventory_range CHECK (flashsale.stock_adds_up(inventory, stock))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);

COMMENT ON TABLE flashsale.items IS 'What is sold, one row for each item. inventory and stock change only through functions.';
COMMENT ON COLUMN flashsale.items.item_id IS 'Id of the item, below 2^53.';
COMMENT ON COLUMN flashsale.items.inventory IS 'Units free to reserve.';
COMMENT ON COLUMN flashsale.items.stock IS 'Units supplied and not written off: free, reserved, being paid for and sold.';
COMMENT ON COLUMN flashsale.items.version IS 'Raised by every change of inventory, price, window, pause or limit.';
COMMENT ON COLUMN flashsale.items.paused IS 'While true nothing can be reserved; orders already reserved stay payable.';
COMMENT ON COLUMN flashsale.items.max_per_user IS 'Most units one user may hold or have bought. NULL: no limit.';
COMMENT ON COLUMN flashsale.items.starts_at IS 'Start of the sale, inclusive. NULL: already started.';
COMMENT ON COLUMN flashsale.items.ends_at IS 'End of the sale, exclusive. NULL: never ends.';
COMMENT ON COLUMN flashsale.items.reservation_ttl IS 'How long a reservation of this item lasts. NULL: the setting flashsale.reservation_ttl.';
COMMENT ON COLUMN flashsale.items.unit_price IS 'Price of one unit in minor units of currency (cents). NULL: the application decides on prices.';
COMMENT ON COLUMN flashsale.items.currency IS 'ISO 4217 code in capitals.';
COMMENT ON COLUMN flashsale.items.name IS 'Name for display, 1 to 255 bytes.';
COMMENT ON COLUMN flashsale.items.created_at IS 'When the item was created.';
COMMENT ON COLUMN flashsale.items.cancelled_units IS 'Units of its cancelled orders.';
COMMENT ON COLUMN flashsale.items.expired_units IS 'Units of its expired orders.';
COMMENT ON COLUMN flashsale.items.refunded_units IS 'Units of its refunded orders.';

-- No foreign key to items: every insert of an order would lock the hot row FOR KEY SHARE, which makes
-- a multixact beside another buyer's lock.
CREATE TABLE flashsale.orders (
    order_id         bigint      NOT NULL DEFAULT flashsale.next_id('flashsale.orders_order_id_seq') PRIMARY KEY,
    item_id          bigint      NOT NULL,
    quantity         bigint      NOT NULL,
    units_held       bigint      NOT NULL,
    unit_price       bigint,
    created_at       timestamptz NOT NULL,
    expires_at       timestamptz,
    paying_at        timestamptz,
    payment_deadline timestamptz,
    confirmed_at     timestamptz,
    closed_at        timestamptz,
    status           text        NOT NULL DEFAULT 'reserved',
    -- Comparison of bytes is faster than collation by a language, and no query sorts by these columns.
    user_id          text        NOT NULL COLLATE "C",
    currency         text,
    idempotency_key  text        COLLATE "C",
    closed_by        text,
    close_reason     text,
    -- Only the code is stored: so the ref cannot differ from the id, and a row without a code, such as one of a
    -- dump of 0.1, gets one by the default.
    ref_code         text        NOT NULL DEFAULT flashsale.new_ref_code() COLLATE "C",
    CONSTRAINT orders_units_held CHECK (flashsale.units_add_up(status, quantity, units_held))
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- Written only by purchases that have a key.
CREATE UNIQUE INDEX orders_idempotency_key ON flashsale.orders (item_id, user_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
-- Finds a user's holdings of an item without reading dead orders, and all orders of a user.
CREATE INDEX orders_holdings ON flashsale.orders (user_id, item_id, units_held);
CREATE INDEX orders_expiry ON flashsale.orders (expires_at) WHERE status = 'reserved';
-- Finds the stale reservations of one item.
CREATE INDEX orders_item_expiry ON flashsale.orders (item_id, expires_at) WHERE status = 'reserved';
CREATE INDEX orders_payment_deadline ON flashsale.orders (payment_deadline) WHERE status = 'paying';

COMMENT ON TABLE flashsale.orders IS 'One buyer''s claim on units of one item, one row for each order. Changed only through functions.';
COMMENT ON COLUMN flashsale.orders.order_id IS 'Id of the order, below 2^53.';
COMMENT ON COLUMN flashsale.orders.item_id IS 'The item claimed.';
COMMENT ON COLUMN flashsale.orders.quantity IS 'Units claimed.';
COMMENT ON COLUMN flashsale.orders.units_held IS 'quantity while the order is reserved, paying or confirmed; 0 once its units were restored or written off.';
COMMENT ON COLUMN flashsale.orders.unit_price IS 'Price of one unit when it was reserved, in minor units.';
COMMENT ON COLUMN flashsale.orders.created_at IS 'When it was reserved.';
COMMENT ON COLUMN flashsale.orders.expires_at IS 'When the reservation expires.';
COMMENT ON COLUMN flashsale.orders.paying_at IS 'When begin_payment was first called.';
COMMENT ON COLUMN flashsale.orders.payment_deadline IS 'When an order that is still in paying appears in payment_checks.';
COMMENT ON COLUMN flashsale.orders.confirmed_at IS 'When it was confirmed.';
COMMENT ON COLUMN flashsale.orders.closed_at IS 'When it was cancelled, expired or refunded.';
COMMENT ON COLUMN flashsale.orders.status IS 'reserved, paying, confirmed, cancelled, expired or refunded.';
COMMENT ON COLUMN flashsale.orders.user_id IS 'The buyer, as identified by the application, 1 to 255 bytes.';
COMMENT ON COLUMN flashsale.orders.currency IS 'Currency of unit_price, ISO 4217.';
COMMENT ON COLUMN flashsale.orders.idempotency_key IS 'The same key for the same user and item is the same purchase, 1 to 255 bytes.';
COMMENT ON COLUMN flashsale.orders.closed_by IS 'Database user that cancelled, expired or refunded it.';
COMMENT ON COLUMN flashsale.orders.close_reason IS 'Why it was closed.';
COMMENT ON COLUMN flashsale.orders.ref_code IS 'The random part of its ref, which is order_id || ''-'' || ref_code. The ref names the order outside: at the gateway, in links and e-mails.';

CREATE TABLE flashsale.payments (
    payment_id  bigint      NOT NULL DEFAULT flashsale.next_id('flashsale.payments_payment_id_seq') PRIMARY KEY,
    order_id    bigint,
    payment_ref text        UNIQUE,
    amount      bigint,
    currency    text,
    status      text        NOT NULL,
    why         text,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_since   timestamptz,
    refunded_at timestamptz,
    refund_ref  text,
    order_ref   text        COLLATE "C",
    CONSTRAINT payments_fate CHECK (flashsale.payment_adds_up(
        status, why, due_since IS NOT NULL, refunded_at IS NOT NULL, payment_ref, refund_ref, amount))
);
CREATE INDEX payments_order ON flashsale.payments (order_id);
CREATE UNIQUE INDEX payments_paid_once ON flashsale.payments (order_id) WHERE status = 'paid';
CREATE UNIQUE INDEX payments_without_ref ON flashsale.payments (order_id) WHERE payment_ref IS NULL;
-- Finds the charges of a ref that names no order, and allows one without a payment_ref.
CREATE UNIQUE INDEX payments_order_ref ON flashsale.payments (order_ref, payment_ref) NULLS NOT DISTINCT
    WHERE order_ref IS NOT NULL;
CREATE INDEX payments_due_since ON flashsale.payments (due_since) WHERE status = 'due';

COMMENT ON TABLE flashsale.payments IS 'One row for each charge that was reported. Each pays exactly one confirmed order, is due for refund, or was refunded.';
COMMENT ON COLUMN flashsale.payments.payment_id IS 'Id of the row.';
COMMENT ON COLUMN flashsale.payments.order_id IS 'The order that the charge was reported for; if it was reported by its id, it may not exist. NULL: order_ref names no order.';
COMMENT ON COLUMN flashsale.payments.payment_ref IS 'The gateway''s id of the charge. NULL: reported without one so far.';
COMMENT ON COLUMN flashsale.payments.amount IS 'Amount charged in minor units, as reported. NULL: not reported, so the order''s price.';
COMMENT ON COLUMN flashsale.payments.currency IS 'Currency charged, as reported. NULL: not reported, so the order''s.';
COMMENT ON COLUMN flashsale.payments.status IS 'paid, due (for refund) or refunded.';
COMMENT ON COLUMN flashsale.payments.why IS 'Why it is due or was refunded.';
COMMENT ON COLUMN flashsale.payments.created_at IS 'When it was first reported.';
COMMENT ON COLUMN flashsale.payments.due_since IS 'When it became due for refund.';
COMMENT ON COLUMN flashsale.payments.refunded_at IS 'When refund_payment reported the refund.';
COMMENT ON COLUMN flashsale.payments.refund_ref IS 'The gateway''s id of the refund.';
COMMENT ON COLUMN flashsale.payments.order_ref IS 'The ref that the charge was reported for, if it names no order; else NULL.';

CREATE TABLE flashsale.stock_movements (
    movement_id bigint      NOT NULL DEFAULT flashsale.next_id('flashsale.stock_movements_movement_id_seq') PRIMARY KEY,
    item_id     bigint      NOT NULL,
    delta       bigint      NOT NULL,
    order_id    bigint,
    reason      text,
    moved_by    text        NOT NULL DEFAULT session_user,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    idempotency_key text COLLATE "C",
    stock_after     bigint,
    inventory_after bigint,
    CONSTRAINT stock_movements_delta CHECK (delta <> 0)
);
CREATE INDEX stock_movements_item ON flashsale.stock_movements (item_id, movement_id);
CREATE UNIQUE INDEX stock_movements_idempotency_key ON flashsale.stock_movements (item_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

COMMENT ON TABLE flashsale.stock_movements IS 'Every change of an item''s stock. Rows are only added; the deltas of an item add up to its stock.';
COMMENT ON COLUMN flashsale.stock_movements.movement_id IS 'Id of the row.';
COMMENT ON COLUMN flashsale.stock_movements.item_id IS 'The item.';
COMMENT ON COLUMN flashsale.stock_movements.delta IS 'Units added, or removed if negative.';
COMMENT ON COLUMN flashsale.stock_movements.order_id IS 'The refunded order whose units were written off.';
COMMENT ON COLUMN flashsale.stock_movements.reason IS 'Why the stock changed.';
COMMENT ON COLUMN flashsale.stock_movements.moved_by IS 'Database user that changed it.';
COMMENT ON COLUMN flashsale.stock_movements.created_at IS 'When the stock changed.';
COMMENT ON COLUMN flashsale.stock_movements.idempotency_key IS 'The same key for the same item is the same movement, 1 to 255 bytes.';
COMMENT ON COLUMN flashsale.stock_movements.stock_after IS 'Stock of the item after a movement with a key.';
COMMENT ON COLUMN flashsale.stock_movements.inventory_after IS 'Free units of the item after a movement with a key.';

-- Rules that a purchase relies on and that no constraint can express.

CREATE FUNCTION flashsale.guard_items() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        IF EXISTS (SELECT FROM flashsale.orders) THEN
            RAISE EXCEPTION 'items cannot be truncated while orders exist'
                USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        IF NEW.item_id <> OLD.item_id THEN
            RAISE EXCEPTION 'item % cannot be renumbered', OLD.item_id USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF EXISTS (SELECT FROM flashsale.orders o WHERE o.item_id = OLD.item_id) THEN
        RAISE EXCEPTION 'item % has orders and cannot be deleted', OLD.item_id
            USING ERRCODE = 'restrict_violation', HINT = 'Use flashsale.pause_item to take it off sale.';
    END IF;
    -- Its id may be used again, and its movements must then add up again.
    IF OLD.stock <> 0 THEN
        INSERT INTO flashsale.stock_movements (item_id, delta, reason) VALUES (OLD.item_id, -OLD.stock, 'deleted');
    END IF;
    RETURN OLD;
END $$;
COMMENT ON FUNCTION flashsale.guard_items() IS 'Trigger: an item with orders cannot be deleted, and no item can be given another id.';

CREATE TRIGGER guard_items BEFORE DELETE OR UPDATE OF item_id ON flashsale.items
    FOR EACH ROW EXECUTE FUNCTION flashsale.guard_items();
CREATE TRIGGER guard_items_truncate BEFORE TRUNCATE ON flashsale.items
    FOR EACH STATEMENT EXECUTE FUNCTION flashsale.guard_items();

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

CREATE FUNCTION flashsale.check_item() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    broken text := CASE
        WHEN NOT NEW.item_id BETWEEN 1 AND 9007199254740991 THEN 'items_item_id_range'
        WHEN NEW.stock > 9007199254740991                   THEN 'items_stock_range'
        WHEN NEW.max_per_user <= 0                          THEN 'items_max_per_user_range'
        WHEN NEW.starts_at >= NEW.ends_at                   THEN 'items_window_order'
        WHEN NOT extract(epoch FROM NEW.reservation_ttl) BETWEEN 1 AND 604800 THEN 'items_ttl_range'
        -- The price of the whole stock still fits a JavaScript number.
        WHEN NOT NEW.unit_price BETWEEN 0 AND 9007199254740991 / greatest(NEW.stock, 1) THEN 'items_unit_price_range'
        WHEN NEW.currency !~ '^[A-Z]{3}$'                   THEN 'items_currency_form'
        WHEN NOT octet_length(NEW.name) BETWEEN 1 AND 255   THEN 'items_name_length'
    END;
BEGIN
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'new row for relation "items" violates check constraint "%"', broken
            USING ERRCODE = 'check_violation', CONSTRAINT = broken, SCHEMA = 'flashsale', TABLE = 'items';
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION flashsale.check_item() IS 'Trigger: checks all rules of an item except those of its inventory.';

CREATE TRIGGER check_item
    BEFORE INSERT OR UPDATE OF item_id, stock, max_per_user, starts_at, ends_at, reservation_ttl, unit_price, currency, name
    ON flashsale.items FOR EACH ROW EXECUTE FUNCTION flashsale.check_item();

CREATE FUNCTION flashsale.raise_version() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.version := OLD.version + 1;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION flashsale.raise_version() IS 'Trigger: a change of price, window, pause or limit raises version, as a sale does.';

CREATE TRIGGER raise_version
    BEFORE UPDATE OF paused, max_per_user, starts_at, ends_at, reservation_ttl, unit_price, currency ON flashsale.items
    FOR EACH ROW EXECUTE FUNCTION flashsale.raise_version();

-- One statement for each: a statement that registered several would update the same catalog row twice.
SELECT pg_catalog.pg_extension_config_dump('flashsale.items', '');
SELECT pg_catalog.pg_extension_config_dump('flashsale.items_item_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('flashsale.orders', '');
SELECT pg_catalog.pg_extension_config_dump('flashsale.orders_order_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('flashsale.payments', '');
SELECT pg_catalog.pg_extension_config_dump('flashsale.payments_payment_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('flashsale.stock_movements', '');
SELECT pg_catalog.pg_extension_config_dump('flashsale.stock_movements_movement_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('flashsale.node', '');
