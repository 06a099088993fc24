-- Order refs: in the answers, and as names of orders.
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();
SELECT flashsale.create_item(1000, unit_price => 500, currency => 'EUR', item_id => 1);
-- A ref of the same id and another code.
CREATE FUNCTION t.lost(name text) RETURNS text LANGUAGE sql AS $$
    SELECT order_id || '-' || translate(ref_code, '0123456789ABCDEFGHJKMNPQRSTVWXYZ', '123456789ABCDEFGHJKMNPQRSTVWXYZ0')
    FROM flashsale.orders WHERE order_id = t.id(name)
$$;
-- An answer with such a ref replaced by its buyer.
CREATE FUNCTION t.with_names(answer jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT t.answer(coalesce(
        (SELECT jsonb_set(answer, '{order_ref}', to_jsonb('lost ref of ' || t.name(order_id)))
         FROM flashsale.orders WHERE t.lost(t.name(order_id)) = answer ->> 'order_ref'), answer))
$$;

-- Every purchase answers it, and its replay answers the same one; every code is different.
CREATE TABLE t.bought AS SELECT strategy, answer FROM unnest('{nowait,optimistic,atomic}'::text[]) AS strategy,
    flashsale.purchase_item(1, strategy, 1, 'key', strategy) AS answer;
INSERT INTO t.bought SELECT 'batch', answer FROM jsonb_array_elements(flashsale.purchase_batch(
    '[{"item_id":1,"user_id":"one","idempotency_key":"key"},{"item_id":1,"user_id":"two"},{"item_id":1,"user_id":"one","idempotency_key":"key"}]')) AS answer;
SELECT strategy, answer ->> 'order_ref' ~ ('^' || (answer ->> 'order_id') || '-[0-9A-HJKMNP-TV-Z]{10}$') AS formed,
       answer ->> 'order_ref' = flashsale.get_order((answer ->> 'order_id')::bigint) ->> 'order_ref' AS same
FROM t.bought;
SELECT answer ->> 'order_ref' = (SELECT b.answer ->> 'order_ref' FROM t.bought b WHERE b.strategy = strategies) AS replayed
FROM unnest('{nowait,optimistic,atomic}'::text[]) AS strategies, flashsale.purchase_item(1, strategies, 1, 'key', 'nowait') AS answer;
SELECT count(*), count(DISTINCT ref_code) FROM flashsale.orders;
SELECT count(DISTINCT digit) FROM (SELECT flashsale.new_ref_code() AS code FROM generate_series(1, 500)) c, regexp_split_to_table(code, '') AS digit;
SELECT flashsale.cancel_order(t.id('nowait')) ->> 'status';
SELECT t.with_names(flashsale.purchase_item(1, 'nowait', 1, 'key'));
SELECT jsonb_agg(t.with_names(o) -> 'order_ref') FROM jsonb_array_elements(flashsale.user_orders('one') -> 'orders') AS o;
DROP TABLE t.bought;

-- The whole way of an order by its ref. Answers have its id too.
SELECT flashsale.purchase_item(1, 'ann') ->> 'success';
SELECT t.with_names(flashsale.begin_payment(t.ref('ann')));
SELECT t.with_names(flashsale.begin_payment(t.ref('ann'), '1 hour'));
SELECT t.with_names(flashsale.confirm_order(t.ref('ann'), 'pay-ann', 500, 'EUR'));
SELECT t.with_names(flashsale.confirm_order(t.ref('ann'), 'pay-ann'));
SELECT t.with_names(flashsale.confirm_order(t.id('ann'), 'pay-ann'));
SELECT t.with_names(flashsale.confirm_order(t.ref('ann'), 'pay-ann-2'));
SELECT t.with_names(flashsale.cancel_order(t.ref('ann'), 'too late'));
SELECT t.with_names(flashsale.get_order(t.ref('ann')) - 'payments');
SELECT t.with_names(flashsale.refund_order(t.ref('ann'), false));
SELECT t.with_names(flashsale.refund_order(t.ref('ann')));
SELECT t.with_names(flashsale.find_payment('pay-ann') - 'due_since');
SELECT t.with_names(flashsale.refund_payment('pay-ann'));
SELECT flashsale.purchase_item(1, 'bea') ->> 'success';
SELECT t.with_names(flashsale.cancel_order(t.ref('bea'), 'changed her mind'));
SELECT t.with_names(flashsale.cancel_order(t.ref('bea')));

-- Digits alone are an order id; people may write a code in small letters, and O, I and L for 0 and 1.
SELECT flashsale.purchase_item(1, 'cid') ->> 'success';
SELECT t.with_names(flashsale.begin_payment(t.id('cid')::text));
SELECT t.with_names(flashsale.get_order('00' || t.id('cid')) - 'payments') ->> 'user_id';
UPDATE flashsale.orders SET ref_code = '0123456789' WHERE user_id = 'cid';
SELECT flashsale.get_order(t.id('cid') || '-oi2345678' || 9) ->> 'user_id', flashsale.get_order(t.id('cid') || '-0L23456789') ->> 'user_id';

-- A ref whose id is that of an order and whose code is another names no order: no call does anything to that order.
SELECT flashsale.purchase_item(1, 'dan') ->> 'success';
SELECT t.with_names(flashsale.begin_payment(t.lost('dan')));
SELECT t.with_names(flashsale.cancel_order(t.lost('dan')));
SELECT t.with_names(flashsale.refund_order(t.lost('dan')));
SELECT t.with_names(flashsale.get_order(t.lost('dan')));
SELECT t.with_names(flashsale.confirm_order(t.lost('dan'), 'pay-lost', 500, 'EUR'));
SELECT status, units_held FROM flashsale.orders WHERE user_id = 'dan';
-- The charge is due, with the ref as it was reported; repeated, it is answered the same.
SELECT t.with_names(flashsale.confirm_order(t.lost('dan'), 'pay-lost', 500, 'EUR'));
SELECT t.with_names(flashsale.confirm_order('0' || lower(t.lost('dan')), 'pay-lost', 500, 'EUR'));
SELECT t.with_names(flashsale.find_payment('pay-lost'));
SELECT t.with_names(to_jsonb(d)) FROM flashsale.refunds_due d WHERE payment_ref = 'pay-lost';
-- It stays due when the order of that id is confirmed by a charge of its own, of which it is no duplicate.
SELECT t.with_names(flashsale.confirm_order(t.id('dan'), 'pay-lost')), t.with_names(flashsale.confirm_order(t.ref('dan'), 'pay-lost'));
SELECT t.with_names(flashsale.confirm_order(t.ref('dan'), 'pay-dan', 500, 'EUR'));
SELECT flashsale.get_order(t.ref('dan')) -> 'payments';
SELECT t.with_names(flashsale.confirm_order(t.lost('dan'), 'pay-dan'));
SELECT t.with_names(flashsale.refund_payment('pay-lost', 're-1')), t.with_names(flashsale.refund_payment('pay-dan'));
SELECT t.with_names(flashsale.confirm_order(t.lost('dan'), 'pay-lost', 500, 'EUR'));
-- Texts that no order can have; the first ref that is reported fills the payment without one.
SELECT t.answer(flashsale.confirm_order(ref)) FROM unnest('{none,17-,-17,17-0123456789A, 17}'::text[]) AS ref;
SELECT t.answer(flashsale.confirm_order('none', 'pay-none', 7)), t.answer(flashsale.confirm_order('none'));
SELECT t.answer(flashsale.confirm_order('none', NULL, 8)), t.answer(flashsale.confirm_order('none', 'pay-none-2', 8));
SELECT t.answer(flashsale.confirm_order('18-', NULL, 9)), t.error($$SELECT flashsale.confirm_order('18-', NULL, 8)$$);
SELECT t.answer(flashsale.get_order(ref)), t.answer(flashsale.begin_payment(ref)), t.answer(flashsale.cancel_order(ref)),
       t.answer(flashsale.refund_order(ref)) FROM unnest('{none,17-0123456789,999}'::text[]) AS ref;
SELECT order_id, order_ref, payment_ref, amount, why FROM flashsale.payments WHERE order_ref ~ '^[^0-9]|^17' ORDER BY payment_id;
-- A charge that was reported before there was an order of that ref is that order's.
SELECT t.answer(flashsale.confirm_order('77-0123456789', 'pay-early'));
INSERT INTO flashsale.orders (order_id, item_id, quantity, units_held, created_at, closed_at, status, user_id, ref_code)
VALUES (77, 1, 1, 0, now(), now(), 'cancelled', 'eve', '0123456789');
UPDATE flashsale.items SET cancelled_units = cancelled_units + 1 WHERE item_id = 1;
SELECT t.answer(flashsale.confirm_order('77-0123456789', 'pay-early'));

-- Which overload is called. Without a type it is the one with a text.
SELECT t.error(format('SELECT %s', call)) FROM (VALUES ('flashsale.get_order(NULL)'), ('flashsale.get_order(NULL::bigint)'),
    ('flashsale.begin_payment('''')'), ('flashsale.cancel_order(repeat(''x'', 256))'), ('flashsale.refund_order(NULL::text)'),
    ('flashsale.confirm_order(''99999999999999999999'')'), ('flashsale.get_order(1.5)'), ('flashsale.get_order(true)')) AS v (call);
SELECT flashsale.get_order('1') ->> 'user_id', flashsale.get_order(1) ->> 'user_id', flashsale.get_order(1::smallint) ->> 'user_id',
       flashsale.get_order('1'::varchar) ->> 'user_id', flashsale.get_order(order_id => 1) ->> 'user_id',
       flashsale.get_order(order_id => '1') ->> 'user_id', flashsale.get_order(order_ref => '1') ->> 'user_id',
       flashsale.get_order(t.ref('optimistic')::varchar) ->> 'user_id', flashsale.get_order(t.ref('optimistic')::name) ->> 'user_id';
PREPARE untyped AS SELECT flashsale.confirm_order($1, $2) ->> 'status';
PREPARE typed(integer) AS SELECT flashsale.confirm_order($1, 'pay-o') ->> 'status';
PREPARE by_id AS SELECT flashsale.confirm_order(order_id => $1, payment_ref => 'pay-o') ->> 'status';
SELECT name, parameter_types FROM pg_prepared_statements ORDER BY name;
SELECT t.ref('optimistic') AS ref, t.id('optimistic') AS id \gset
EXECUTE untyped(:'ref', 'pay-o');
EXECUTE untyped(:id, 'pay-o');
EXECUTE untyped(:'id', 'pay-o');
EXECUTE typed(:id);
EXECUTE by_id(:id);
DEALLOCATE ALL;

-- Orders that an operator has to look at are shown with their refs.
UPDATE flashsale.orders SET payment_deadline = now() WHERE user_id = 'cid';
SELECT t.with_names(to_jsonb(c) - 'overdue') ->> 'order_ref' FROM flashsale.payment_checks c;
SELECT t.name(order_id), order_ref IS NOT DISTINCT FROM t.ref(t.name(order_id)) FROM flashsale.refunds_due WHERE payment_ref = 'pay-ann-2';

-- By statements, with a default of the shop's own, under one snapshot, and as the app.
ALTER TABLE flashsale.orders ALTER ref_code SET DEFAULT 'SH0PSH0PSH';
SELECT flashsale.purchase_item(1, 'fay') ->> 'order_ref' ~ '-SH0PSH0PSH$';
ALTER TABLE flashsale.orders ALTER ref_code SET DEFAULT flashsale.new_ref_code();
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT answer ->> 'order_ref' = t.ref('gus') FROM flashsale.purchase_item(1, 'gus') AS answer;
SELECT t.with_names(flashsale.begin_payment(t.ref('gus')));
COMMIT;
CREATE ROLE t_app;
SELECT flashsale.grant_app('t_app');
SELECT t.ref('gus') AS ref \gset
SET ROLE t_app;
SELECT flashsale.begin_payment(:'ref') ->> 'status', flashsale.confirm_order(:'ref', 'pay-gus') ->> 'status',
       flashsale.get_order(:'ref') ->> 'status', flashsale.cancel_order(:'ref') ->> 'reason';
SELECT t.error('SELECT flashsale.refund_order(''1'')'), t.error('SELECT flashsale.new_ref_code()');
RESET ROLE;
DROP OWNED BY t_app;
DROP ROLE t_app;

-- What audit() says of a malformed code, and of a payment for two orders or none.
SELECT invariant, detail FROM flashsale.audit() WHERE invariant = 'order_ids_and_texts';
UPDATE flashsale.orders SET ref_code = 'short' WHERE user_id = 'fay';
UPDATE flashsale.payments SET order_id = 5 WHERE payment_ref = 'pay-none';
UPDATE flashsale.payments SET order_ref = NULL WHERE payment_ref = 'pay-lost';
SELECT invariant, payment_ref, detail FROM flashsale.audit() ORDER BY 1, 2;
DELETE FROM flashsale.payments WHERE payment_ref IN ('pay-none', 'pay-lost');
UPDATE flashsale.orders SET ref_code = flashsale.new_ref_code() WHERE user_id = 'fay';
SELECT * FROM flashsale.audit();
DROP FUNCTION t.with_names(jsonb), t.lost(text);
