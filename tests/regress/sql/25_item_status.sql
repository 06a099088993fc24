-- item_status counts what the orders say after every kind of move, and reads few of them.
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();
SELECT flashsale.create_item(100, unit_price => 5, currency => 'EUR', item_id => 1),
       flashsale.create_item(100, item_id => 2),
       flashsale.create_item(100, item_id => 3);

-- Where the view and the orders differ.
CREATE FUNCTION pg_temp.wrong() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT format('item %s: %s', item_id, counted) || format(' but the orders say %s', said)
    FROM flashsale.item_status s
    LEFT JOIN LATERAL (
        SELECT jsonb_object_agg(status, coalesce(units, 0)) AS said
        FROM unnest('{reserved,paying,confirmed,cancelled,expired,refunded}'::text[]) AS status
        LEFT JOIN (SELECT status, sum(quantity) AS units FROM flashsale.orders o WHERE o.item_id = s.item_id GROUP BY status) u
            USING (status)) o ON true,
    LATERAL (SELECT jsonb_build_object('reserved', reserved, 'paying', paying, 'confirmed', confirmed, 'cancelled', cancelled,
                                       'expired', expired, 'refunded', refunded) AS counted) c
    WHERE counted <> said
$$;
SELECT count(*) FROM generate_series(1, 12) AS n, flashsale.purchase_item(1, 'one ' || n, 1 + n % 3) AS a WHERE a -> 'success' = 'true';
SELECT count(*) FROM generate_series(1, 12) AS n, flashsale.purchase_item(2, 'two ' || n, 1 + n % 3) AS a WHERE a -> 'success' = 'true';
SELECT pg_temp.wrong();
-- Each is moved by itself; expired and reinstated; refunded with and without its units; and then again, to no effect.
SELECT flashsale.begin_payment(t.id('one 1')) ->> 'status', flashsale.begin_payment(t.id('two 1')) ->> 'status';
SELECT flashsale.confirm_order(t.id('one ' || n), 'pay ' || n) ->> 'status' FROM unnest('{2,3,4}'::int[]) AS n;
SELECT flashsale.cancel_order(t.id('one ' || n)) ->> 'status' FROM unnest('{5,5,6}'::int[]) AS n;
CALL t.make_stale('one 7');
CALL t.make_stale('two 7');
CALL t.make_stale('two 8');
SELECT flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT flashsale.confirm_order(t.id('one 7'), 'pay late') ->> 'reinstated';
SELECT flashsale.refund_order(t.id('one 2')) ->> 'status', flashsale.refund_order(t.id('one 2')) ->> 'already_refunded';
SELECT flashsale.refund_order(t.id('one 3'), restock => false) ->> 'status';
SELECT pg_temp.wrong();
SELECT item_id, stock, inventory, reserved, paying, confirmed, cancelled, expired, refunded FROM flashsale.item_status ORDER BY item_id;

-- The units of stale reservations, which a buyer gets, count as free, before and after they are expired.
CREATE FUNCTION pg_temp.item_4() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', s.state, s.stock, s.inventory, s.reserved, s.paying, s.confirmed, a ->> 'state', a ->> 'available', a ->> 'remaining_inventory')
    FROM flashsale.item_status s, flashsale.item_availability(4) AS a WHERE s.item_id = 4
$$;
SELECT flashsale.create_item(5, item_id => 4), flashsale.purchase_item(4, 'four 1', 2) ->> 'success', flashsale.purchase_item(4, 'four 2', 3) ->> 'success';
SELECT pg_temp.item_4();
CALL t.make_stale('four 2');
SELECT pg_temp.item_4();
SELECT flashsale.purchase_item(4, 'four 3', 3) ->> 'success';
SELECT pg_temp.item_4();
SELECT flashsale.begin_payment(t.id('four 3')) ->> 'status';
CALL t.make_stale('four 1');
CALL t.make_stale('four 3'); -- does not expire while it is paid for
SELECT pg_temp.item_4();
SELECT flashsale.reconcile_stale_reservations() ->> 'expired';
SELECT pg_temp.item_4();

-- 60,000 closed or confirmed orders more, and 300 that are reserved or paying.
INSERT INTO flashsale.orders (item_id, quantity, units_held, created_at, expires_at, payment_deadline, confirmed_at, closed_at, status, user_id)
SELECT 3, 1, CASE WHEN status IN ('expired', 'cancelled') THEN 0 ELSE 1 END, now(), now(), now(),
       CASE WHEN status = 'confirmed' THEN now() END, CASE WHEN status IN ('expired', 'cancelled') THEN now() END, status, 'user ' || n
FROM generate_series(1, 60300) AS n,
     LATERAL (SELECT CASE n % 201 WHEN 0 THEN 'paying' ELSE (ARRAY['confirmed', 'cancelled', 'expired'])[1 + n % 3] END AS status) AS s;
UPDATE flashsale.items SET cancelled_units = 20000, expired_units = 20000, inventory = 0, stock = (SELECT sum(units_held) FROM flashsale.orders WHERE item_id = 3)
WHERE item_id = 3;
VACUUM ANALYZE flashsale.orders;
VACUUM ANALYZE flashsale.items;
-- How many pages a query visits, of those of the orders.
CREATE FUNCTION pg_temp.share_of_pages(query text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE plan jsonb;
BEGIN
    EXECUTE query; -- the catalogs are cached from here on
    EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ' || query INTO plan;
    RETURN ((plan -> 0 -> 'Plan' ->> 'Shared Hit Blocks')::numeric + (plan -> 0 -> 'Plan' ->> 'Shared Read Blocks')::numeric)
        / (pg_relation_size('flashsale.orders') / 8192);
END $$;
SELECT paying, confirmed, cancelled, expired FROM flashsale.item_status WHERE item_id = 3;
SELECT pg_temp.share_of_pages('SELECT * FROM flashsale.item_status WHERE item_id = 3') < 0.5;
SELECT pg_temp.share_of_pages('SELECT * FROM flashsale.item_status WHERE item_id = 1') < 0.5;
SELECT pg_temp.share_of_pages('SELECT sum(confirmed), sum(expired) FROM flashsale.item_status') < 0.5;
-- As it would be if it read them.
SELECT pg_temp.share_of_pages('SELECT sum(quantity) FROM flashsale.orders WHERE status = ''confirmed''') < 0.5;
CALL t.reset();
