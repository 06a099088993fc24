-- The ceiling of any statement.
\set item random(:first, :last)
\set user random(1, 2000000000)
SELECT 1;
