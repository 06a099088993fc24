-- neveroversell.
\set item random(:first, :last)
\set user random(1, 2000000000)
SELECT nos_hold('item ' || :item, 1, 'user ' || :user);
