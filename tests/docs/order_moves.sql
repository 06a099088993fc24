-- Makes every move in every status and prints the results as the rows of a Markdown table.

CREATE FUNCTION pg_temp.order_in(status text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE id CONSTANT bigint := flashsale.purchase_item(flashsale.create_item(1), 'buyer') -> 'order_id';
BEGIN
    CASE status
        WHEN 'reserved' THEN NULL;
        WHEN 'paying' THEN PERFORM flashsale.begin_payment(id);
        WHEN 'confirmed' THEN PERFORM flashsale.confirm_order(id);
        WHEN 'cancelled' THEN PERFORM flashsale.cancel_order(id);
        WHEN 'expired' THEN PERFORM flashsale.reconcile_stale_reservations('0 s');
        WHEN 'refunded' THEN PERFORM flashsale.confirm_order(id), flashsale.refund_order(id);
    END CASE;
    RETURN id;
END $$;

CREATE FUNCTION pg_temp.come_of(move text, was text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    id CONSTANT bigint := pg_temp.order_in(was);
    answer jsonb;
    status text;
BEGIN
    EXECUTE format('SELECT flashsale.%s', replace(move, '?', id::text)) INTO answer;
    status := flashsale.get_order(id) ->> 'status';
    RETURN CASE WHEN answer ->> 'success' = 'false' THEN format('refused: `%s`', answer ->> 'reason')
                WHEN answer ->> 'reinstated' = 'true' THEN format('reinstated: `%s`', status)
                WHEN status <> was THEN format('→ `%s`', status)
                ELSE 'repeat' END;
END $$;

SELECT format('| `%s` | %s |', was, string_agg(pg_temp.come_of(move, was), ' | ' ORDER BY nr))
FROM unnest('{reserved,paying,confirmed,cancelled,expired,refunded}'::text[]) WITH ORDINALITY AS s (was, place),
     unnest(ARRAY['begin_payment(?)', 'confirm_order(?)', 'cancel_order(?)',
                  'reconcile_stale_reservations(''0 s'')', 'refund_order(?)']) WITH ORDINALITY AS m (move, nr)
GROUP BY was, place ORDER BY place;
