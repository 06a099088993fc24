-- Solution 1 without Redis, a round trip a statement. SKIP LOCKED says what NOWAIT says
-- without an error, which would end a client of pgbench.
\set item random(:first, :last)
\set user random(1, 2000000000)
BEGIN;
SELECT coalesce((SELECT version FROM peer.items WHERE id = :item AND inventory > 0 FOR UPDATE SKIP LOCKED), -1) AS version \gset
\if :version >= 0
UPDATE peer.items SET inventory = inventory - 1, version = version + 1 WHERE id = :item AND inventory > 0 AND version = :version RETURNING inventory;
INSERT INTO peer.orders (user_id, item_id, status) VALUES ('user ' || :user, :item, 'reserved') RETURNING id;
COMMIT;
\else
ROLLBACK;
\set pause random(5, 15)
\sleep :pause ms
\endif
