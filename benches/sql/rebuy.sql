-- :old is 1 for the buyer with many dead orders, and 0 for a new buyer each time.
\set number random(1, 2000000000) * (1 - :old)
SELECT flashsale.purchase_item(:first, 'user ' || :number, strategy => 'nowait');
