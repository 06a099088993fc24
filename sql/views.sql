-- Views and the audit, for operators.

CREATE FUNCTION flashsale.item_state(inventory bigint, starts_at timestamptz, ends_at timestamptz, paused boolean) RETURNS text
LANGUAGE sql VOLATILE
RETURN CASE WHEN inventory = 0                 THEN 'sold_out'
            WHEN clock_timestamp() < starts_at  THEN 'not_started'
            WHEN clock_timestamp() >= ends_at   THEN 'ended'
            WHEN paused                         THEN 'paused'
            ELSE 'on_sale' END;
COMMENT ON FUNCTION flashsale.item_state(bigint, timestamptz, timestamptz, boolean) IS
'Whether an item can be bought now, and if not, why. If several reasons apply: the first in the order of purchase_item.';

CREATE VIEW flashsale.item_status AS
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
COMMENT ON COLUMN flashsale.item_status.item_id IS 'Id of the item.';
COMMENT ON COLUMN flashsale.item_status.name IS 'Name for display.';
COMMENT ON COLUMN flashsale.item_status.state IS 'on_sale, or why it cannot be bought: sold_out, not_started, ended, paused.';
COMMENT ON COLUMN flashsale.item_status.stock IS 'Units supplied and not written off.';
COMMENT ON COLUMN flashsale.item_status.inventory IS 'Units free to reserve, with those of expired reservations.';
COMMENT ON COLUMN flashsale.item_status.reserved IS 'Units reserved, as long as the reservation lasts.';
COMMENT ON COLUMN flashsale.item_status.paying IS 'Units being paid for.';
COMMENT ON COLUMN flashsale.item_status.confirmed IS 'Units sold.';
COMMENT ON COLUMN flashsale.item_status.cancelled IS 'Units of cancelled orders, back in inventory.';
COMMENT ON COLUMN flashsale.item_status.expired IS 'Units of expired orders, back in inventory.';
COMMENT ON COLUMN flashsale.item_status.refunded IS 'Units of refunded orders, back in inventory or written off.';
COMMENT ON COLUMN flashsale.item_status.unit_price IS 'Price of one unit in minor units.';
COMMENT ON COLUMN flashsale.item_status.currency IS 'ISO 4217 code in capitals.';
COMMENT ON COLUMN flashsale.item_status.max_per_user IS 'Most units one user may hold or have bought.';
COMMENT ON COLUMN flashsale.item_status.starts_at IS 'Start of the sale, inclusive.';
COMMENT ON COLUMN flashsale.item_status.ends_at IS 'End of the sale, exclusive.';

CREATE VIEW flashsale.payment_checks AS
SELECT order_id, item_id, user_id, quantity, unit_price * quantity AS amount, currency,
       paying_at, payment_deadline, clock_timestamp() - payment_deadline AS overdue,
       order_id || '-' || ref_code AS order_ref
FROM flashsale.orders
WHERE status = 'paying' AND payment_deadline <= clock_timestamp();
COMMENT ON VIEW flashsale.payment_checks IS 'Orders in paying past their deadline: ask the gateway about the charge, then call confirm_order or cancel_order.';
COMMENT ON COLUMN flashsale.payment_checks.order_id IS 'The order to confirm or cancel.';
COMMENT ON COLUMN flashsale.payment_checks.item_id IS 'Its item.';
COMMENT ON COLUMN flashsale.payment_checks.user_id IS 'Its buyer.';
COMMENT ON COLUMN flashsale.payment_checks.quantity IS 'Units it holds.';
COMMENT ON COLUMN flashsale.payment_checks.amount IS 'What should have been charged, in minor units.';
COMMENT ON COLUMN flashsale.payment_checks.currency IS 'Currency of amount.';
COMMENT ON COLUMN flashsale.payment_checks.paying_at IS 'When begin_payment was first called.';
COMMENT ON COLUMN flashsale.payment_checks.payment_deadline IS 'When it appeared here.';
COMMENT ON COLUMN flashsale.payment_checks.overdue IS 'How long ago that was.';
COMMENT ON COLUMN flashsale.payment_checks.order_ref IS 'Its ref: under this the gateway knows the charge, if the application passes refs to it.';

CREATE VIEW flashsale.refunds_due AS
SELECT p.payment_ref, p.order_id, o.user_id,
       coalesce(p.amount, o.unit_price * o.quantity) AS amount, coalesce(p.currency, o.currency) AS currency,
       p.due_since, p.why, coalesce(p.order_ref, o.order_id || '-' || o.ref_code) AS order_ref
FROM flashsale.payments p
-- An order that got the id later has nothing to do with the charge.
LEFT JOIN flashsale.orders o ON o.order_id = p.order_id AND p.why <> 'order_not_found'
WHERE p.status = 'due';
COMMENT ON VIEW flashsale.refunds_due IS 'One row for each charge that is due for refund: refund it at the gateway, then call refund_payment. A charge without a payment_ref gets it from confirm_order(order_id, payment_ref).';
COMMENT ON COLUMN flashsale.refunds_due.payment_ref IS 'The gateway''s id of the charge to refund. NULL: not reported yet.';
COMMENT ON COLUMN flashsale.refunds_due.order_id IS 'The order that it was reported for, which may not exist. NULL: order_ref names no order.';
COMMENT ON COLUMN flashsale.refunds_due.user_id IS 'Its buyer, if the order is known.';
COMMENT ON COLUMN flashsale.refunds_due.amount IS 'The amount to refund, in minor units: as reported, else the order''s price.';
COMMENT ON COLUMN flashsale.refunds_due.currency IS 'Currency of amount.';
COMMENT ON COLUMN flashsale.refunds_due.due_since IS 'Since when it is due.';
COMMENT ON COLUMN flashsale.refunds_due.why IS 'Why it is due.';
COMMENT ON COLUMN flashsale.refunds_due.order_ref IS 'The ref of the order; if why is order_not_found, the ref that was reported, or NULL if an id was.';

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

CREATE FUNCTION flashsale.audit(OUT invariant text, OUT item_id bigint, OUT order_id bigint, OUT payment_ref text, OUT detail text)
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

CREATE VIEW flashsale.stats AS
    SELECT subject, strategy, name, value FROM flashsale.read_stats();
COMMENT ON VIEW flashsale.stats IS
'Counters since the server started or stats_reset(), of all databases. purchases: answers by strategy and outcome. gate: hits, and how often an item was shut. seller: batches, requests, largest_batch, queue_wait_seconds (sum), longest_queue_wait_seconds, waiting and oldest_wait_seconds (now), errors. reconciler: runs, expired, errors, backlog (stale orders that the last run passed over), last_run (seconds since 1970). stats: reset (seconds since 1970). Error 55000 without preload.';
COMMENT ON COLUMN flashsale.stats.subject IS 'purchases, gate, seller, reconciler or stats.';
COMMENT ON COLUMN flashsale.stats.strategy IS 'Of purchases: nowait, optimistic, atomic, grouped, or batch for purchase_batch.';
COMMENT ON COLUMN flashsale.stats.name IS 'What is counted; of purchases reserved, replayed or the reason of a refusal.';
COMMENT ON COLUMN flashsale.stats.value IS 'The count, or seconds where the name says so.';
