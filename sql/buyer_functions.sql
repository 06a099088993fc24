-- Buyer functions, which the application calls.

-- These three have no SET search_path: src/pg/guc.rs pins it before they run SQL.
CREATE FUNCTION flashsale.purchase_item(
    item_id bigint, user_id text, quantity bigint DEFAULT 1,
    idempotency_key text DEFAULT NULL, strategy text DEFAULT NULL) RETURNS jsonb
LANGUAGE c SECURITY DEFINER
AS 'MODULE_PATHNAME', 'purchase_item_wrapper';

CREATE FUNCTION flashsale.purchase_item(
    item_id bigint, user_id bigint, quantity bigint DEFAULT 1,
    idempotency_key text DEFAULT NULL, strategy text DEFAULT NULL) RETURNS jsonb
LANGUAGE c SECURITY DEFINER
AS 'MODULE_PATHNAME', 'purchase_item_bigint_wrapper';

CREATE FUNCTION flashsale.purchase_item(
    item_id bigint, user_id uuid, quantity bigint DEFAULT 1,
    idempotency_key text DEFAULT NULL, strategy text DEFAULT NULL) RETURNS jsonb
LANGUAGE c SECURITY DEFINER
AS 'MODULE_PATHNAME', 'purchase_item_uuid_wrapper';

COMMENT ON FUNCTION flashsale.purchase_item(bigint, text, bigint, text, text) IS
'Reserves quantity units of an item for a user, until expires_at. If it succeeds, it locks the item''s row until the end of the transaction. If that row is locked already, the strategy decides (default: the setting flashsale.strategy): nowait answers busy at once, atomic waits flashsale.lock_wait, optimistic tries again and answers conflict. Under grouped this session locks nothing, and the seller commits the purchase.
Success: order_id, order_ref, item_id, quantity, status, remaining_inventory, expires_at, unit_price, currency, replayed.
Reasons: item_not_found, out_of_stock, busy, conflict, sale_not_started, sale_ended, sale_paused, user_limit_reached, idempotency_key_reused, order_cancelled, order_expired, order_refunded.
Errors: 22004 for a NULL item_id, user_id or quantity; 22023 for a quantity below 1, a text not of 1 to 255 bytes, an unknown strategy; only under grouped: 25001 in a transaction block, 55000 without preload or outside flashsale.database, 08007 if the outcome cannot be known.';
COMMENT ON FUNCTION flashsale.purchase_item(bigint, bigint, bigint, text, text) IS
'As purchase_item with user_id text; the number is stored as its text.';
COMMENT ON FUNCTION flashsale.purchase_item(bigint, uuid, bigint, text, text) IS
'As purchase_item with user_id text; the uuid is stored as its text.';

CREATE FUNCTION flashsale.purchase_batch(requests jsonb, strategy text DEFAULT NULL) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'purchase_batch_by_strategy_wrapper';
COMMENT ON FUNCTION flashsale.purchase_batch(jsonb, text) IS
'Up to 1,000 independent purchases in one transaction, for an application that gathers its users'' clicks: an array of objects with item_id, user_id (text or whole number), quantity (default 1) and idempotency_key (may be left out). Each item is locked once, in ascending order of ids, as purchase_item does under the strategy (default: the setting flashsale.strategy), but under grouped as under atomic: in the caller''s transaction, waiting for locked items up to flashsale.lock_wait in all.
Returns an array of answers in the order of the requests, each as from purchase_item; one that fails changes nothing for the others.
Errors, before anything changes: 22004 for NULL, or a NULL item_id, user_id or quantity; 22023 for anything but an array of such objects, for more than 1,000 of them, for an unknown field or strategy, and where purchase_item has it; 22003 for a number out of the range of bigint.';

CREATE FUNCTION flashsale.begin_payment(order_id bigint, payment_window interval DEFAULT NULL) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'begin_payment_wrapper';
COMMENT ON FUNCTION flashsale.begin_payment(bigint, interval) IS
'Call before charging: from then on the order does not expire by itself. The order is listed in payment_checks after payment_window (default: the setting flashsale.payment_window; at most 7 days); a repeat never extends it. Locks the order.
Success: order_id, status (paying), payment_deadline.
Reasons: order_not_found, order_expired, order_cancelled, order_refunded, already_confirmed, busy.
Errors: 22004 for a NULL order_id, 22023 for a payment_window not above 0 and at most 7 days.';

CREATE FUNCTION flashsale.begin_payment(order_ref text, payment_window interval DEFAULT NULL) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'begin_payment_by_ref_wrapper';
COMMENT ON FUNCTION flashsale.begin_payment(text, interval) IS
'As begin_payment with order_id, for an order''s ref; digits alone are an order id.';

CREATE FUNCTION flashsale.confirm_order(
    order_id bigint, payment_ref text DEFAULT NULL,
    amount bigint DEFAULT NULL, currency text DEFAULT NULL) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'confirm_order_wrapper';
COMMENT ON FUNCTION flashsale.confirm_order(bigint, text, bigint, text) IS
'Reports a charge that succeeded. It becomes the only payment of the order, or is recorded as due for refund. An expired order takes its units again if they are free. Locks the order, and the item too if an expired order is reinstated.
Success: order_id, status (confirmed), already_confirmed, reinstated.
Reasons, each but busy with refund_required: order_not_found, order_expired, order_cancelled, order_refunded, duplicate_payment, payment_ref_in_use, amount_mismatch, busy.
Errors: 22004 for a NULL order_id; 22023 for a payment_ref not of 1 to 255 bytes or a NULL one where a different charge was reported without one, a negative amount, a currency that is not three letters; 22003 for an amount above 2^53 - 1.';

CREATE FUNCTION flashsale.confirm_order(
    order_ref text, payment_ref text DEFAULT NULL,
    amount bigint DEFAULT NULL, currency text DEFAULT NULL) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'confirm_order_by_ref_wrapper';
COMMENT ON FUNCTION flashsale.confirm_order(text, text, bigint, text) IS
'As confirm_order with order_id, for an order''s ref; digits alone are an order id. A charge for a ref that names no order is recorded as due, with that ref.';

CREATE FUNCTION flashsale.cancel_order(order_id bigint, reason text DEFAULT NULL) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cancel_order_wrapper';
COMMENT ON FUNCTION flashsale.cancel_order(bigint, text) IS
'Cancels a reserved or paying order and restores its units, once. Locks the order, then the item.
Success: order_id, status, restored (units), already_closed.
Reasons: order_not_found, already_confirmed, busy.
Errors: 22004 for a NULL order_id, 22023 for a reason not of 1 to 255 bytes.';

CREATE FUNCTION flashsale.cancel_order(order_ref text, reason text DEFAULT NULL) RETURNS jsonb
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cancel_order_by_ref_wrapper';
COMMENT ON FUNCTION flashsale.cancel_order(text, text) IS
'As cancel_order with order_id, for an order''s ref; digits alone are an order id.';

CREATE FUNCTION flashsale.get_order(order_id bigint) RETURNS jsonb
LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'get_order_wrapper';
COMMENT ON FUNCTION flashsale.get_order(bigint) IS
'Returns one order with its payments. Locks nothing.
Success: order_id, order_ref, item_id, user_id, quantity, status, unit_price, currency, total, idempotency_key, times of its moves, close_reason, payments.
Reasons: order_not_found. Errors: 22004 for NULL.';

CREATE FUNCTION flashsale.get_order(order_ref text) RETURNS jsonb
LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'get_order_by_ref_wrapper';
COMMENT ON FUNCTION flashsale.get_order(text) IS
'As get_order with order_id, for an order''s ref; digits alone are an order id.';

CREATE FUNCTION flashsale.user_orders(user_id text) RETURNS jsonb
LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'user_orders_wrapper';
COMMENT ON FUNCTION flashsale.user_orders(text) IS
'Returns the user''s orders, newest first, 100 at most, each as from get_order. Locks nothing.
Success: user_id, orders. Reasons: user_not_found (no order at all). Errors: 22004 for NULL, 22023 for a text not of 1 to 255 bytes.';

CREATE FUNCTION flashsale.find_payment(payment_ref text) RETURNS jsonb
LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'find_payment_wrapper';
COMMENT ON FUNCTION flashsale.find_payment(text) IS
'Returns the status of one charge. Locks nothing.
Success: payment_ref, order_id (null if the ref that it was reported for names no order), order_ref, status (paid, due, refunded), why, amount, currency, created_at, due_since, refunded_at, refund_ref.
Reasons: payment_not_found. Errors: 22004 for NULL, 22023 for a text not of 1 to 255 bytes.';

CREATE FUNCTION flashsale.item_availability(item_id bigint) RETURNS jsonb
LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'item_availability_wrapper';
COMMENT ON FUNCTION flashsale.item_availability(bigint) IS
'Returns what a shop page shows about an item. Locks nothing.
Success: item_id, name, available (can be bought now), state (on_sale, sold_out, not_started, ended, paused), remaining_inventory, unit_price, currency, max_per_user, starts_at, ends_at.
Reasons: item_not_found. Errors: 22004 for NULL.';
