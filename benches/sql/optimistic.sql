-- Ours, strategy optimistic; a refused buyer comes back after the pause its answer advises.
\set item random(:first, :last)
\set user random(1, 2000000000)
SELECT coalesce(flashsale.purchase_item(:item, 'user ' || :user, strategy => 'optimistic') ->> 'retryable', 'false') AS again \gset
\if :again
\set pause random(5, 15)
\sleep :pause ms
\endif
