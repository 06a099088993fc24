-- Reports a new charge on an order in every status, at its price and at another one, and prints the
-- results as the rows of a Markdown table.

CREATE FUNCTION pg_temp.order_like(state text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    item CONSTANT bigint := flashsale.create_item(1, unit_price => 500, currency => 'EUR');
    id CONSTANT bigint := flashsale.purchase_item(item, 'buyer') -> 'order_id';
BEGIN
    CASE state
        WHEN 'unknown' THEN RETURN -id;
        WHEN '`reserved`' THEN NULL;
        WHEN '`paying`' THEN PERFORM flashsale.begin_payment(id);
        WHEN '`confirmed`' THEN PERFORM flashsale.confirm_order(id, 'first ' || id);
        WHEN '`cancelled`' THEN PERFORM flashsale.cancel_order(id);
        WHEN '`expired`, its units are free' THEN PERFORM flashsale.reconcile_stale_reservations('0 s');
        WHEN '`expired`, its units are sold' THEN
            PERFORM flashsale.reconcile_stale_reservations('0 s'), flashsale.purchase_item(item, 'another');
        WHEN '`refunded`' THEN PERFORM flashsale.confirm_order(id, 'first ' || id), flashsale.refund_order(id);
    END CASE;
    RETURN id;
END $$;

CREATE FUNCTION pg_temp.fate(state text, amount bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    id CONSTANT bigint := pg_temp.order_like(state);
    charge CONSTANT text := format('charge of %s for %s', amount, id);
    answer CONSTANT jsonb := flashsale.confirm_order(id, charge, amount, 'EUR');
    status CONSTANT text := flashsale.find_payment(charge) ->> 'status';
BEGIN
    RETURN CASE WHEN status = 'due' THEN format('due: `%s`', answer ->> 'reason')
                WHEN answer ->> 'reinstated' = 'true' THEN 'pays the order, which takes its units again'
                WHEN status = 'paid' AND answer ->> 'success' = 'true' THEN 'pays the order'
                ELSE answer::text END;
END $$;

SELECT format('| %s | %s | %s |', state, pg_temp.fate(state, 500), pg_temp.fate(state, 499))
FROM unnest(ARRAY['`reserved`', '`paying`', '`confirmed`', '`cancelled`', '`expired`, its units are free',
                  '`expired`, its units are sold', '`refunded`', 'unknown']) WITH ORDINALITY AS s (state, place)
ORDER BY place;
