//! Statements that only look: what pages show, and what the resolver has to do.
//!
//! They run with the operators' role, but for the bill. The extension's own functions are called in
//! `database.rs`.

/// What there is to charge for an order, as an answer of the extension.
pub const BILL: &str = "SELECT o || jsonb_build_object( \
     'amount', CASE WHEN o ->> 'currency' IS NULL THEN 0 ELSE coalesce((o ->> 'total')::bigint, 0) END, \
     'currency', coalesce(o ->> 'currency', ''), \
     'is_forgotten', coalesce((o ->> 'paying_at')::timestamptz <= now() - interval '20 hours', false)) \
     FROM flashsale.get_order($1) o";

/// What buyers see: a document with all items.
pub const STOCK: &str = "SELECT jsonb_build_object('serverTime', clock_timestamp(), 'items', coalesce(jsonb_agg( \
     jsonb_build_object('itemId', item_id, 'name', name, \
     'state', flashsale.item_state(inventory, starts_at, ends_at, paused), 'stock', stock, \
     'inventory', inventory, 'unitPrice', unit_price, 'currency', currency, \
     'maxPerUser', max_per_user, 'startsAt', starts_at, 'endsAt', ends_at) ORDER BY item_id), '[]')) \
     FROM flashsale.items";

/// What operators see: a document with items, answers to purchases and why orders among the last
/// 10,000 were cancelled, refunds due and payments to check. It reads neither confirmed nor closed
/// orders beyond those.
pub const SHOP: &str = "SELECT jsonb_build_object('serverTime', clock_timestamp(), \
     'items', (SELECT coalesce(jsonb_agg(jsonb_build_object('itemId', s.item_id, 'name', s.name, \
         'state', state, 'paused', i.paused, 'stock', s.stock, 'inventory', s.inventory, 'reserved', reserved, \
         'paying', paying, 'confirmed', confirmed, 'cancelled', cancelled, 'expired', expired, \
         'refunded', refunded) ORDER BY s.item_id), '[]') \
         FROM flashsale.item_status s JOIN flashsale.items i USING (item_id)), \
     'answers', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', name, 'value', value) \
         ORDER BY name), '[]') FROM (SELECT name, sum(value) AS value FROM flashsale.stats \
         WHERE subject = 'purchases' GROUP BY name HAVING sum(value) > 0 \
         UNION ALL SELECT close_reason, count(*) FROM (SELECT status, close_reason \
             FROM flashsale.orders ORDER BY order_id DESC LIMIT 10000) o \
         WHERE status = 'cancelled' AND close_reason IS NOT NULL GROUP BY close_reason) s), \
     'refundsDueCount', (SELECT count(*) FROM flashsale.refunds_due), \
     'refundsDue', (SELECT coalesce(jsonb_agg(jsonb_build_object('paymentRef', payment_ref, \
         'orderRef', order_ref, 'userId', user_id, 'amount', amount, 'currency', currency, \
         'dueSince', due_since, 'why', why)), '[]') \
         FROM (SELECT * FROM flashsale.refunds_due ORDER BY due_since LIMIT 20) r), \
     'paymentChecksCount', (SELECT count(*) FROM flashsale.payment_checks), \
     'paymentChecks', (SELECT coalesce(jsonb_agg(jsonb_build_object('orderRef', order_ref, \
         'itemId', item_id, 'userId', user_id, 'amount', amount, 'currency', currency, \
         'payingAt', paying_at, 'paymentDeadline', payment_deadline)), '[]') \
         FROM (SELECT * FROM flashsale.payment_checks ORDER BY payment_deadline LIMIT 20) p))";

/// The broken invariants, as a list.
pub const AUDIT: &str = "SELECT coalesce(jsonb_agg(jsonb_build_object('invariant', invariant, 'itemId', item_id, \
     'orderId', order_id, 'paymentRef', payment_ref, 'detail', detail)), '[]') FROM flashsale.audit()";

/// Orders whose payment is past its deadline. In random order, so that a few that fail each time
/// do not keep the others from their turn.
pub const OVERDUE: &str = "SELECT coalesce(jsonb_agg(order_id), '[]') FROM (SELECT order_id \
     FROM flashsale.payment_checks WHERE paying_at > now() - interval '20 hours' \
     ORDER BY random() LIMIT 100) o";

/// Charges to give back; in random order, as above.
pub const DUE: &str = "SELECT coalesce(jsonb_agg(payment_ref), '[]') FROM (SELECT payment_ref \
     FROM flashsale.refunds_due WHERE payment_ref IS NOT NULL ORDER BY random() LIMIT 100) r";

/// How much is left to do, and how much of it to a person.
pub const BACKLOG: &str = "SELECT jsonb_build_object( \
     'payment_checks', (SELECT count(*) FROM flashsale.payment_checks), \
     'forgotten', (SELECT count(*) FROM flashsale.payment_checks \
         WHERE paying_at <= now() - interval '20 hours'), \
     'refunds_due', (SELECT count(*) FROM flashsale.refunds_due))";

/// True, if the role may read the resolver's lists.
pub const HEALTH: &str = "SELECT to_jsonb(EXISTS (SELECT FROM flashsale.payment_checks) \
     IS NOT NULL AND EXISTS (SELECT FROM flashsale.refunds_due) IS NOT NULL)";
