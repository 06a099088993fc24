-- Ours, one of :items items that are on the first :nodes of four nodes.
\set n random(0, :items - 1)
\set item :nodes * 100000 + 4 * (:n / :nodes) + :n % :nodes
\set user random(1, 2000000000)
SELECT flashsale.purchase_item(:item, 'user ' || :user, strategy => 'atomic');
