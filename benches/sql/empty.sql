-- The ceiling of any function with these arguments.
\set item random(:first, :last)
\set user random(1, 2000000000)
SELECT peer.empty(:item, 'user ' || :user, strategy => 'grouped');
