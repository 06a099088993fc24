-- Solution 3 as a function: the one-row conditional UPDATE.
\set item random(:first, :last)
\set user random(1, 2000000000)
SELECT peer.seed3(:item, 'user ' || :user);
