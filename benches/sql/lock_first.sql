-- Locks the row before it looks.
\set item random(:first, :last)
\set user random(1, 2000000000)
SELECT peer.lock_first(:item, 'user ' || :user);
