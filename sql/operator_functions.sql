-- Operator functions, which people and scheduled jobs call.

CREATE FUNCTION flashsale.create_item(
    inventory bigint, name text DEFAULT NULL, unit_price bigint DEFAULT NULL, currency text DEFAULT NULL,
    max_per_user integer DEFAULT NULL, starts_at timestamptz DEFAULT NULL, ends_at timestamptz DEFAULT NULL,
    reservation_ttl interval DEFAULT NULL, item_id bigint DEFAULT NULL) RETURNS bigint
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'create_item_wrapper';
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

CREATE FUNCTION flashsale.pause_item(item_id bigint) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'pause_item_wrapper';
COMMENT ON FUNCTION flashsale.pause_item(bigint) IS
'Stops sales of an item; orders already reserved stay payable. Idempotent. Locks the item, waiting up to flashsale.lock_wait.
Success: item_id, paused. Reasons: item_not_found, busy. Errors: 22004 for NULL.';

CREATE FUNCTION flashsale.resume_item(item_id bigint) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'resume_item_wrapper';
COMMENT ON FUNCTION flashsale.resume_item(bigint) IS
'Restarts sales of a paused item. Idempotent. Locks the item, waiting up to flashsale.lock_wait.
Success: item_id, paused. Reasons: item_not_found, busy. Errors: 22004 for NULL.';

CREATE FUNCTION flashsale.reconcile_stale_reservations(
    older_than interval DEFAULT NULL, max_orders integer DEFAULT 1000) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'reconcile_stale_reservations_wrapper';
COMMENT ON FUNCTION flashsale.reconcile_stale_reservations(interval, integer) IS
'Expires up to max_orders (1 to 100000) reserved orders past expires_at, or with older_than those created longer ago than that, and restores their units. Never changes an order in paying. It skips orders and items that are locked, so it waits for no row, and several sessions may call it at once.
Success: expired (orders), restored (units), skipped (stale orders passed over, since they or their item were locked, since they had changed meanwhile, or since a trigger or constraint keeps them from expiring, of which a WARNING names the first ten), payment_checks (orders in paying past their deadline), more (call again).
Reasons: busy. Errors: 22004 for a NULL max_orders, 22023 for a negative older_than or a max_orders out of range.';

CREATE FUNCTION flashsale.refund_order(order_id bigint, restock boolean DEFAULT true) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'refund_order_wrapper';
COMMENT ON FUNCTION flashsale.refund_order(bigint, boolean) IS
'Refunds a confirmed order: its payment becomes due for refund, and its units return to inventory, or with restock => false are removed from the stock. Final and idempotent. Locks the order, its payment, then the item.
Success: order_id, status (refunded), restored (units), written_off (units), already_refunded.
Reasons: order_not_found, order_not_confirmed (with status), busy. Errors: 22004 for NULL.';

CREATE FUNCTION flashsale.refund_order(order_ref text, restock boolean DEFAULT true) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'refund_order_by_ref_wrapper';
COMMENT ON FUNCTION flashsale.refund_order(text, boolean) IS
'As refund_order with order_id, for an order''s ref; digits alone are an order id.';

CREATE FUNCTION flashsale.refund_payment(payment_ref text, refund_ref text DEFAULT NULL) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'refund_payment_wrapper';
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

CREATE FUNCTION flashsale.grant_app(role regrole) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'grant_app_wrapper';
COMMENT ON FUNCTION flashsale.grant_app(regrole) IS
'Lets a role call the buyer functions and nothing else. Runs with the caller''s rights: call it as the owner of the extension, again after an update adds functions.';

CREATE FUNCTION flashsale.grant_operator(role regrole) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'grant_operator_wrapper';
COMMENT ON FUNCTION flashsale.grant_operator(regrole) IS
'Lets a role call the operator functions, confirm and cancel orders, read everything, and change an item''s name, price, window and limits, but write nothing else. Runs with the caller''s rights, as grant_app.';

CREATE FUNCTION flashsale.read_stats(
    OUT subject text, OUT strategy text, OUT name text, OUT value double precision) RETURNS SETOF record
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'read_stats_wrapper';
COMMENT ON FUNCTION flashsale.read_stats() IS
'Returns what the view stats shows: counters of the whole server, not of this database. Reads only shared memory. Errors: 55000 without preload.';

CREATE FUNCTION flashsale.stats_reset() RETURNS void
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stats_reset_wrapper';
COMMENT ON FUNCTION flashsale.stats_reset() IS
'Sets the counters of the view stats to zero; the reconciler''s backlog and last_run stay. Errors: 55000 without preload.';
