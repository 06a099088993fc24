-- The same, 64 of the items in one call.
\set start random(0, :items - 1)
\set user random(1, 2000000000)
SELECT flashsale.purchase_batch((
    SELECT jsonb_agg(jsonb_build_object('item_id', :first + 4 * (n / :nodes) + n % :nodes, 'user_id', 'user ' || :user + n))
    FROM (SELECT (:start + i) % :items AS n FROM generate_series(1, 64) AS i) AS wanted), strategy => :strategy);
