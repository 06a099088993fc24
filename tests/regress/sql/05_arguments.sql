-- Every bad argument of every function, with its SQLSTATE; none changes anything.
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();
SELECT flashsale.create_item(10, unit_price => 100, currency => 'EUR', item_id => 1);
SELECT flashsale.purchase_item(1, 'alice') ->> 'success';
SELECT md5(string_agg(o::text, '')) AS before FROM flashsale.orders o \gset

-- purchase_item
SELECT call || ' -> ' || t.error('SELECT flashsale.purchase_item' || call) FROM (VALUES
    ('(NULL, ''bob'')'),
    ('(NULL, 42)'),
    ('(1, NULL)'),
    ('(1, NULL::text)'),
    ('(1, NULL::bigint)'),
    ('(1, NULL::uuid)'),
    ('(NULL, NULL, NULL)'),
    ('(1, ''bob'', NULL)'),
    ('(1, 42, NULL)'),
    ('(1, uuid ''0a8f3e9c-1c1d-4b2b-9c55-6f0e6a1c7d21'', NULL)'),
    ('(1, ''bob'', 0)'),
    ('(1, ''bob'', -1)'),
    ('(1, 42, 0)'),
    ('(1, uuid ''0a8f3e9c-1c1d-4b2b-9c55-6f0e6a1c7d21'', 0)'),
    ('(1, ''bob'', -2147483649)'),
    ('(1, ''bob'', -9223372036854775808)'),
    ('(1, ''bob'', 9223372036854775808)'),
    ('(9223372036854775808, ''bob'')'),
    ('(1, '''')'),
    ('(1, repeat(''x'', 256))'),
    ('(1, repeat(''x'', 10000))'),
    ('(1, repeat(''é'', 128))'),
    ('(1, ''bob'', 1, '''')'),
    ('(1, ''bob'', 1, repeat(''x'', 256))'),
    ('(1, ''bob'', 1, repeat(''x'', 10000))'),
    ('(1, 42, 1, '''')'),
    ('(1, ''bob'', 1, NULL, '''')'),
    ('(1, ''bob'', 1, NULL, ''fastest'')'),
    ('(1, ''bob'', 1, NULL, repeat(''x'', 10000))'),
    ('(1, 42, 1, NULL, ''fastest'')'),
    ('(1, ''bob'', 1, NULL, ''grouped'')'),
    ('(1, 42, 1, NULL, ''grouped'')')) AS v (call);
-- The arguments are checked before the item is looked at.
SELECT t.error('SELECT flashsale.purchase_item(99, ''bob'', 0)');
SELECT t.error('SELECT flashsale.purchase_item(99, ''bob'', 1, '''')');
SELECT t.error('SELECT flashsale.purchase_item(99, ''bob'', 1, NULL, ''fastest'')');
-- The longest texts that are allowed.
SELECT flashsale.purchase_item(1, repeat('x', 255), 1, repeat('y', 255)) ->> 'success';
SELECT flashsale.purchase_item(1, repeat('é', 127), 1, repeat('é', 127)) ->> 'success';
SELECT flashsale.purchase_item(1, ' ', 1, ' ') ->> 'success';
SELECT octet_length(user_id), octet_length(idempotency_key)
FROM flashsale.orders WHERE user_id <> 'alice' ORDER BY order_id;
DELETE FROM flashsale.orders WHERE user_id <> 'alice';
UPDATE flashsale.items SET inventory = 9;

-- begin_payment
SELECT call || ' -> ' || t.error('SELECT flashsale.begin_payment' || call) FROM (VALUES
    ('(NULL)'),
    ('(NULL, ''1 minute'')'),
    ('(t.id(''alice''), ''0'')'),
    ('(t.id(''alice''), ''-1 second'')'),
    ('(t.id(''alice''), ''7 days 1 microsecond'')'),
    ('(t.id(''alice''), ''1 month'')'),
    ('(t.id(''alice''), ''1 month -30 days'')'),
    ('(t.id(''alice''), ''1 day -24 hours'')'),
    ('(t.id(''alice''), ''170000000 years'')'),
    ('(t.id(''alice''), ''-170000000 years'')'),
    ('(99, ''0'')')) AS v (call);

-- confirm_order
SELECT call || ' -> ' || t.error('SELECT flashsale.confirm_order' || call) FROM (VALUES
    ('(NULL)'),
    ('(NULL, ''pay-1'')'),
    ('(t.id(''alice''), '''')'),
    ('(t.id(''alice''), repeat(''x'', 256))'),
    ('(t.id(''alice''), repeat(''x'', 10000))'),
    ('(t.id(''alice''), ''pay-1'', -1)'),
    ('(t.id(''alice''), ''pay-1'', -9223372036854775808)'),
    ('(t.id(''alice''), ''pay-1'', 9223372036854775808)'),
    ('(t.id(''alice''), ''pay-1'', 100, '''')'),
    ('(t.id(''alice''), ''pay-1'', 100, ''EU'')'),
    ('(t.id(''alice''), ''pay-1'', 100, ''EURO'')'),
    ('(t.id(''alice''), ''pay-1'', 100, ''E1R'')'),
    ('(t.id(''alice''), ''pay-1'', 100, ''ÄÖÜ'')'),
    ('(t.id(''alice''), ''pay-1'', 100, repeat(''x'', 10000))'),
    ('(99, '''')'),
    ('(99, ''pay-1'', -1)')) AS v (call);

-- cancel_order
SELECT call || ' -> ' || t.error('SELECT flashsale.cancel_order' || call) FROM (VALUES
    ('(NULL)'),
    ('(NULL, ''why'')'),
    ('(t.id(''alice''), '''')'),
    ('(t.id(''alice''), repeat(''x'', 256))'),
    ('(t.id(''alice''), repeat(''x'', 10000))'),
    ('(99, '''')')) AS v (call);

-- get_order, user_orders, find_payment, item_availability
SELECT call || ' -> ' || t.error('SELECT flashsale.' || call) FROM (VALUES
    ('get_order(NULL)'),
    ('user_orders(NULL)'),
    ('user_orders('''')'),
    ('user_orders(repeat(''x'', 256))'),
    ('user_orders(repeat(''x'', 10000))'),
    ('find_payment(NULL)'),
    ('find_payment('''')'),
    ('find_payment(repeat(''x'', 256))'),
    ('find_payment(repeat(''x'', 10000))'),
    ('item_availability(NULL)')) AS v (call);

-- create_item
SELECT call || ' -> ' || t.error('SELECT flashsale.create_item' || call) FROM (VALUES
    ('(NULL)'),
    ('(NULL, ''Console'')'),
    ('(-1)'),
    ('(-9223372036854775808)'),
    ('(9007199254740992)'),
    ('(9223372036854775807)'),
    ('(9223372036854775808)'),
    ('(1, '''')'),
    ('(1, repeat(''x'', 256))'),
    ('(1, repeat(''x'', 10000))'),
    ('(1, repeat(''é'', 128))'),
    ('(1, unit_price => -1)'),
    ('(1, unit_price => -9223372036854775808)'),
    ('(1, unit_price => 9007199254740992)'),
    ('(0, unit_price => 9007199254740992)'),
    ('(1, unit_price => 9223372036854775807)'),
    ('(2, unit_price => 4503599627370496)'),
    ('(9007199254740991, unit_price => 2)'),
    ('(9007199254740991, unit_price => 9007199254740991)'),
    ('(1, currency => '''')'),
    ('(1, currency => ''EU'')'),
    ('(1, currency => ''EURO'')'),
    ('(1, currency => ''E R'')'),
    ('(1, currency => ''123'')'),
    ('(1, currency => ''ÄÖÜ'')'),
    ('(1, currency => repeat(''x'', 10000))'),
    ('(1, max_per_user => 0)'),
    ('(1, max_per_user => -1)'),
    ('(1, max_per_user => -2147483648)'),
    ('(1, max_per_user => 2147483648)'),
    ('(1, starts_at => ''2026-01-02 00:00+00'', ends_at => ''2026-01-01 00:00+00'')'),
    ('(1, starts_at => ''2026-01-01 00:00+00'', ends_at => ''2026-01-01 00:00+00'')'),
    ('(1, starts_at => ''infinity'', ends_at => ''-infinity'')'),
    ('(1, reservation_ttl => ''0'')'),
    ('(1, reservation_ttl => ''-1 second'')'),
    ('(1, reservation_ttl => ''999999 microseconds'')'),
    ('(1, reservation_ttl => ''7 days 1 microsecond'')'),
    ('(1, reservation_ttl => ''1 month'')'),
    ('(1, reservation_ttl => ''1 month -30 days'')'),
    ('(1, reservation_ttl => ''170000000 years'')'),
    ('(1, item_id => 0)'),
    ('(1, item_id => -1)'),
    ('(1, item_id => -9223372036854775808)'),
    ('(1, item_id => 1)'),
    ('(1, item_id => 9007199254740992)'),
    ('(1, item_id => 9223372036854775807)')) AS v (call);

-- restock_item, pause_item, resume_item
SELECT call || ' -> ' || t.error('SELECT flashsale.' || call) FROM (VALUES
    ('restock_item(NULL, 1)'),
    ('restock_item(1, NULL)'),
    ('restock_item(NULL, NULL)'),
    ('restock_item(1, 0)'),
    ('restock_item(99, 0)'),
    ('restock_item(1, 1, '''')'),
    ('restock_item(1, 1, repeat(''x'', 256))'),
    ('restock_item(1, 1, repeat(''x'', 10000))'),
    ('restock_item(1, 9007199254740991)'),
    ('restock_item(1, 9223372036854775807)'),
    ('restock_item(1, 9223372036854775808)'),
    ('restock_item(1, 90071992547400)'),
    ('pause_item(NULL)'),
    ('resume_item(NULL)')) AS v (call);

-- reconcile_stale_reservations
SELECT call || ' -> ' || t.error('SELECT flashsale.reconcile_stale_reservations' || call) FROM (VALUES
    ('(''-1 microsecond'')'),
    ('(''-170000000 years'')'),
    ('(''1 day -25 hours'')'),
    ('(''1 month -31 days'')'),
    ('(NULL, NULL)'),
    ('(NULL, 0)'),
    ('(NULL, -1)'),
    ('(NULL, -2147483648)'),
    ('(NULL, 100001)'),
    ('(NULL, 2147483647)'),
    ('(NULL, 2147483648)')) AS v (call);

-- refund_order, refund_payment
SELECT call || ' -> ' || t.error('SELECT flashsale.' || call) FROM (VALUES
    ('refund_order(NULL)'),
    ('refund_order(NULL, false)'),
    ('refund_order(t.id(''alice''), NULL)'),
    ('refund_payment(NULL)'),
    ('refund_payment(NULL, ''re-1'')'),
    ('refund_payment('''')'),
    ('refund_payment(repeat(''x'', 256))'),
    ('refund_payment(repeat(''x'', 10000))'),
    ('refund_payment(''pay-1'', '''')'),
    ('refund_payment(''pay-1'', repeat(''x'', 256))'),
    ('refund_payment(''pay-1'', repeat(''x'', 10000))')) AS v (call);

-- grant_app, grant_operator
SELECT call || ' -> ' || t.error('SELECT flashsale.' || call) FROM (VALUES
    ('grant_app(NULL)'),
    ('grant_operator(NULL)'),
    ('grant_app(''regress_nobody'')'),
    ('grant_operator(''regress_nobody'')'),
    ('grant_app(0)'),
    ('grant_operator(0)'),
    ('grant_app(4294967295)'),
    ('grant_operator(4294967295)')) AS v (call);

-- The same state reaches a client directly, and its transaction can go on from a savepoint.
\set VERBOSITY sqlstate
BEGIN;
SAVEPOINT before;
SELECT flashsale.purchase_item(1, 'bob', 0);
ROLLBACK TO before;
SELECT flashsale.create_item(-1);
ROLLBACK TO before;
SELECT flashsale.confirm_order(NULL);
ROLLBACK TO before;
SELECT flashsale.purchase_item(1, 'bob', 1, NULL, 'grouped');
ROLLBACK TO before;
SELECT flashsale.restock_item(1, 9007199254740991);
ROLLBACK TO before;
SELECT t.answer(flashsale.purchase_item(1, 'bob'));
ROLLBACK;
\set VERBOSITY default

-- Nothing has changed.
SELECT md5(string_agg(o::text, '')) = :'before' FROM flashsale.orders o;
SELECT t.stock(1), (SELECT count(*) FROM flashsale.items), (SELECT count(*) FROM flashsale.payments),
       (SELECT count(*) FROM flashsale.stock_movements);
SELECT * FROM flashsale.audit();
