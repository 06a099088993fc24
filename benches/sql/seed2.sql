-- Solution 2 as a function; a refused buyer comes back after a pause as long as ours.
\set item random(:first, :last)
\set user random(1, 2000000000)
SELECT coalesce(peer.seed2(:item, 'user ' || :user) ->> 'retryable', 'false') AS again \gset
\if :again
\set pause random(5, 15)
\sleep :pause ms
\endif
