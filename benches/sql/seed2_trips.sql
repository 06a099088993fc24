-- Solution 2, a round trip and a commit a statement; 10 ms until the next try, as it says.
\set item random(:first, :last)
\set user random(1, 2000000000)
SELECT version FROM peer.items WHERE id = :item \gset
WITH taken AS (UPDATE peer.items SET inventory = inventory - 1, version = version + 1 WHERE id = :item AND inventory > 0 AND version = :version RETURNING inventory)
SELECT count(*) AS taken FROM taken \gset
\if :taken
INSERT INTO peer.orders (user_id, item_id, status) VALUES ('user ' || :user, :item, 'reserved') RETURNING id;
\else
\sleep 10 ms
\endif
