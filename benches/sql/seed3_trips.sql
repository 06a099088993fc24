-- Solution 3, a round trip and a commit a statement.
\set item random(:first, :last)
\set user random(1, 2000000000)
WITH taken AS (UPDATE peer.items SET inventory = inventory - 1 WHERE id = :item AND inventory > 0 RETURNING inventory)
SELECT count(*) AS taken FROM taken \gset
\if :taken
INSERT INTO peer.orders (user_id, item_id, status) VALUES ('user ' || :user, :item, 'reserved') RETURNING id;
\endif
