-- Ours, strategy grouped.
\set item random(:first, :last)
\set user random(1, 2000000000)
SELECT flashsale.purchase_item(:item, 'user ' || :user, strategy => 'grouped');
