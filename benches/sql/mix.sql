-- 10 calls of a user of the hot item, in a session of strategy grouped: 7 purchases, 2 of them confirmed, 1 cancelled.
\set item random(:first, :last)
\set user random(1, 2000000000)
SELECT flashsale.purchase_item(:item, 'user ' || :user) ->> 'order_id' AS bought \gset
SELECT flashsale.confirm_order(:bought);
SELECT flashsale.purchase_item(:item, 'user ' || :user);
SELECT flashsale.purchase_item(:item, 'user ' || :user) ->> 'order_id' AS bought \gset
SELECT flashsale.cancel_order(:bought);
SELECT flashsale.purchase_item(:item, 'user ' || :user);
SELECT flashsale.purchase_item(:item, 'user ' || :user) ->> 'order_id' AS bought \gset
SELECT flashsale.confirm_order(:bought);
SELECT flashsale.purchase_item(:item, 'user ' || :user);
SELECT flashsale.purchase_item(:item, 'user ' || :user);
