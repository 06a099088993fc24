-- The settings: names, defaults, ranges, who may set them, and what each does.
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();
SELECT flashsale.create_item(20, item_id => 1);
SELECT name, vartype, boot_val, unit, min_val, max_val, enumvals, context, pending_restart FROM pg_settings
WHERE name ^@ 'flashsale.' ORDER BY name;
SELECT name FROM pg_settings WHERE name ^@ 'flashsale.' AND (short_desc = '' OR extra_desc IS NULL);
SHOW flashsale.strategy;
SHOW flashsale.nowait_retries;
SHOW flashsale.retry_delay;
SHOW flashsale.lock_wait;
SHOW flashsale.reservation_ttl;
SHOW flashsale.payment_window;

-- Values out of range, and names that do not exist.
SELECT assignment || ' -> ' || t.error('SET flashsale.' || assignment) FROM (VALUES
    ('strategy = ''fastest'''),
    ('strategy = '''''),
    ('nowait_retries = -1'),
    ('retry_delay = -1'),
    ('lock_wait = 0'),
    ('lock_wait = -1'),
    ('reservation_ttl = 0'),
    ('reservation_ttl = ''8d'''),
    ('payment_window = 0'),
    ('payment_window = ''8d'''),
    ('speed = 1')) AS v (assignment);

-- The strategy of the session, and the argument, which takes precedence.
SET flashsale.strategy = 'nowait';
SELECT flashsale.purchase_item(1, 'alice') ->> 'success',
       flashsale.purchase_item(1, 'alice', strategy => 'nowait') ->> 'success';
SET flashsale.strategy = 'grouped';
SELECT t.error('SELECT flashsale.purchase_item(1, ''alice'')');
SELECT flashsale.purchase_item(1, 'alice', strategy => 'nowait') ->> 'success';
RESET flashsale.strategy;
SELECT flashsale.purchase_item(1, 'alice') ->> 'success';

-- The times of an order, at both ends.
SET flashsale.reservation_ttl = '1s';
SET flashsale.payment_window = '1s';
SELECT flashsale.purchase_item(1, 'bob') ->> 'success', flashsale.begin_payment(t.id('bob')) ->> 'status';
SET flashsale.reservation_ttl = '7d';
SET flashsale.payment_window = '7d';
SELECT flashsale.purchase_item(1, 'carol') ->> 'success', flashsale.begin_payment(t.id('carol')) ->> 'status';
SELECT user_id, expires_at - created_at, payment_deadline - paying_at
FROM flashsale.orders WHERE user_id <> 'alice' ORDER BY order_id;
RESET ALL;
-- Local to a transaction.
BEGIN;
SET LOCAL flashsale.reservation_ttl = '2min';
SELECT flashsale.purchase_item(1, 'dave') ->> 'success';
COMMIT;
SELECT flashsale.purchase_item(1, 'dave') ->> 'success';
SELECT expires_at - created_at FROM flashsale.orders WHERE user_id = 'dave' ORDER BY order_id;
SELECT * FROM flashsale.audit();
