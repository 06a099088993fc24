-- The calls of purchase_item that must resolve: literals, named arguments, typed and untyped parameters.
\pset tuples_only on
\pset format unaligned
\pset null (null)
CALL t.reset();
SELECT flashsale.create_item(1000, item_id => 1);

-- Literals. The user is stored as text whatever its type.
SELECT flashsale.purchase_item(1, 'alice') ->> 'success';
SELECT flashsale.purchase_item(1, 42) ->> 'success';
SELECT flashsale.purchase_item(1, '43') ->> 'success';
SELECT flashsale.purchase_item('1', 'bob') ->> 'success';
SELECT flashsale.purchase_item('1', 44) ->> 'success';
SELECT flashsale.purchase_item(1, -45) ->> 'success';
SELECT flashsale.purchase_item(1, 9223372036854775807) ->> 'success';
SELECT flashsale.purchase_item(1, -9223372036854775808) ->> 'success';
SELECT flashsale.purchase_item(1, 0) ->> 'success';
SELECT flashsale.purchase_item(1, '0a8f3e9c-1c1d-4b2b-9c55-6f0e6a1c7d21') ->> 'success';
SELECT flashsale.purchase_item(1, uuid '0A8F3E9C-1C1D-4B2B-9C55-6F0E6A1C7D22') ->> 'success';
SELECT flashsale.purchase_item(1, '{0a8f3e9c1c1d4b2b9c556f0e6a1c7d23}'::uuid) ->> 'success';
SELECT quantity, user_id FROM flashsale.orders ORDER BY order_id;

-- Types.
CALL t.reset();
SELECT flashsale.create_item(1000, item_id => 1);
SELECT flashsale.purchase_item(1::smallint, 1::smallint, 1::smallint) ->> 'success';
SELECT flashsale.purchase_item(1::integer, 2::integer, 2::integer) ->> 'success';
SELECT flashsale.purchase_item(1::bigint, 3::bigint, 3::bigint) ->> 'success';
SELECT flashsale.purchase_item(1::smallint, 'four'::text, 4::smallint) ->> 'success';
SELECT flashsale.purchase_item(1::smallint, 'five'::varchar(10), 5) ->> 'success';
SELECT flashsale.purchase_item(1::smallint, 'six'::char(10), 6) ->> 'success';
SELECT flashsale.purchase_item(1::smallint, 'seven'::name, 7) ->> 'success';
SELECT flashsale.purchase_item(1::smallint, '0a8f3e9c-1c1d-4b2b-9c55-6f0e6a1c7d28'::uuid, 8::smallint) ->> 'success';
SELECT quantity, user_id FROM flashsale.orders ORDER BY order_id;
-- Other types do not resolve.
SELECT t.error('SELECT flashsale.purchase_item(1, 42.0)');
SELECT t.error('SELECT flashsale.purchase_item(1.0, 42)');
SELECT t.error('SELECT flashsale.purchase_item(1, 9223372036854775808)');
SELECT t.error('SELECT flashsale.purchase_item(1, true)');
SELECT t.error('SELECT flashsale.purchase_item(1)');
SELECT t.error('SELECT flashsale.purchase_item()');
SELECT t.error('SELECT flashsale.purchase_item(1, 42, ''two'')');

-- Positions and names, in any order, with each overload.
CALL t.reset();
SELECT flashsale.create_item(1000, item_id => 1);
SELECT flashsale.purchase_item(1, 'a', 1, 'key', 'nowait') ->> 'success';
SELECT flashsale.purchase_item(1, 2, 2, 'key', 'nowait') ->> 'success';
SELECT flashsale.purchase_item(1, '0a8f3e9c-1c1d-4b2b-9c55-6f0e6a1c7d23'::uuid, 3, 'key', 'nowait') ->> 'success';
SELECT flashsale.purchase_item(item_id => 1, user_id => 'd') ->> 'success';
SELECT flashsale.purchase_item(user_id => 5, item_id => 1) ->> 'success';
SELECT flashsale.purchase_item(user_id => '0a8f3e9c-1c1d-4b2b-9c55-6f0e6a1c7d26'::uuid, item_id => 1) ->> 'success';
SELECT flashsale.purchase_item(1, 'g', idempotency_key => 'key') ->> 'success';
SELECT flashsale.purchase_item(1, 8, strategy => 'nowait', quantity => 8) ->> 'success';
SELECT flashsale.purchase_item(1, user_id => 'i', quantity => 9::smallint, idempotency_key => NULL, strategy => NULL) ->> 'success';
SELECT flashsale.purchase_item(item_id := 1, user_id := 10, quantity := 10) ->> 'success';
SELECT quantity, user_id, idempotency_key FROM flashsale.orders ORDER BY order_id;
SELECT t.error('SELECT flashsale.purchase_item(item => 1, user_id => ''a'')');
SELECT t.error('SELECT flashsale.purchase_item(1, ''a'', item_id => 1)');

-- Parameters without types, as drivers send them.
CALL t.reset();
SELECT flashsale.create_item(1000, item_id => 1);
PREPARE untyped AS SELECT flashsale.purchase_item($1, $2) ->> 'success';
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'untyped';
EXECUTE untyped(1, 'alice');
EXECUTE untyped('1', '42');
EXECUTE untyped(1, '0a8f3e9c-1c1d-4b2b-9c55-6f0e6a1c7d21');
PREPARE untyped_full AS SELECT flashsale.purchase_item($1, $2, $3, $4, $5) ->> 'success';
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'untyped_full';
EXECUTE untyped_full('1', 'bob', '4', 'key', NULL);
PREPARE untyped_named AS SELECT flashsale.purchase_item(user_id => $1, item_id => $2, idempotency_key => $3) ->> 'success';
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'untyped_named';
EXECUTE untyped_named('carol', '1', 'key');
PREPARE untyped_literal AS SELECT flashsale.purchase_item($1, 42) ->> 'success';
EXECUTE untyped_literal(1);
-- Parameters with types.
PREPARE smallints(smallint, smallint, smallint) AS SELECT flashsale.purchase_item($1, $2, $3) ->> 'success';
EXECUTE smallints(1, 7, 7);
PREPARE integers(integer, integer, integer) AS SELECT flashsale.purchase_item($1, $2, $3) ->> 'success';
EXECUTE integers(1, 8, 8);
PREPARE bigints(bigint, bigint, bigint) AS SELECT flashsale.purchase_item($1, $2, $3) ->> 'success';
EXECUTE bigints(1, 9, 9);
PREPARE texts(bigint, text, integer, text) AS SELECT flashsale.purchase_item($1, $2, $3, $4) ->> 'success';
EXECUTE texts(1, 'ten', 10, 'key');
PREPARE varchars(integer, varchar, smallint, varchar) AS SELECT flashsale.purchase_item($1, $2, $3, $4) ->> 'success';
EXECUTE varchars(1, 'eleven', 11, 'key');
PREPARE uuids(smallint, uuid) AS SELECT flashsale.purchase_item($1, $2, idempotency_key => 'key') ->> 'success';
EXECUTE uuids(1, '0a8f3e9c-1c1d-4b2b-9c55-6f0e6a1c7d2c');
PREPARE half_typed(bigint) AS SELECT flashsale.purchase_item($1, $2) ->> 'success';
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'half_typed';
EXECUTE half_typed(1, 'thirteen');
SELECT quantity, user_id, idempotency_key FROM flashsale.orders ORDER BY order_id;
-- Past the fifth execution, when the plan is a generic one.
SELECT t.stock(1);
EXECUTE smallints(1, 7, 1);
EXECUTE smallints(1, 7, 1);
EXECUTE smallints(1, 7, 1);
EXECUTE smallints(1, 7, 1);
EXECUTE smallints(1, 7, 1);
EXECUTE smallints(1, 7, 1);
SELECT t.stock(1);

-- A user is the same one whatever the type of the id.
SELECT t.answer(flashsale.purchase_item(1, 99, 1, 'same'));
SELECT t.answer(flashsale.purchase_item(1, '99', 1, 'same'));
SELECT t.answer(flashsale.purchase_item(1, uuid '0a8f3e9c-1c1d-4b2b-9c55-6f0e6a1c7d99', 1, 'same'));
SELECT t.answer(flashsale.purchase_item(1, '0a8f3e9c-1c1d-4b2b-9c55-6f0e6a1c7d99', 1, 'same'));

-- As part of larger statements.
SELECT item.name, answer ->> 'success' FROM (VALUES (1, 'one'), (2, 'two')) AS item (id, name),
    flashsale.purchase_item(item.id, 'dora') AS answer ORDER BY item.id;
SELECT (flashsale.purchase_item(1, 'emil') ->> 'quantity')::int + 1;
SELECT count(*) FROM generate_series(1, 50) AS u,
       flashsale.purchase_item(1, u) AS answer WHERE answer -> 'success' = 'true';
WITH bought AS MATERIALIZED (SELECT flashsale.purchase_item(1, 'fay') AS answer)
SELECT answer ->> 'quantity' FROM bought;
CREATE FUNCTION pg_temp.buy(item bigint, who text) RETURNS text LANGUAGE sql BEGIN ATOMIC
    SELECT flashsale.purchase_item(item, who) ->> 'success';
END;
SELECT pg_temp.buy(1, 'gil');
DO $$
DECLARE item integer := 1; who varchar := 'hal'; answer jsonb;
BEGIN
    answer := flashsale.purchase_item(item, who, quantity => 2);
    ASSERT (answer ->> 'quantity')::bigint = 2;
    SELECT flashsale.purchase_item(item, 7) INTO answer;
    ASSERT (answer -> 'success')::boolean;
END $$;

-- The other functions take small integers, names and untyped parameters as well.
PREPARE begin_p AS SELECT flashsale.begin_payment($1, $2) ->> 'success';
PREPARE confirm_p AS SELECT flashsale.confirm_order($1, $2, $3, $4) ->> 'success';
PREPARE cancel_p(integer) AS SELECT flashsale.cancel_order($1, $2) ->> 'status';
PREPARE get_p AS SELECT flashsale.get_order($1) ->> 'status';
PREPARE user_p AS SELECT jsonb_array_length(flashsale.user_orders($1) -> 'orders');
PREPARE find_p AS SELECT flashsale.find_payment($1) ->> 'status';
PREPARE shop_p AS SELECT flashsale.item_availability($1) ->> 'state';
SELECT t.id('dora') AS dora, t.id('emil') AS emil \gset
EXECUTE begin_p(:dora, '5 minutes');
EXECUTE confirm_p(:dora, 'pay-1', 100, 'EUR');
EXECUTE cancel_p(:emil, 'changed my mind');
EXECUTE get_p(:dora);
EXECUTE user_p('dora');
EXECUTE find_p('pay-1');
EXECUTE shop_p('1');
SELECT flashsale.begin_payment(order_id => t.id('gil')::int, payment_window => '1 min') ->> 'status';
SELECT flashsale.confirm_order(currency => 'EUR', amount => 5, payment_ref => 'pay-2', order_id => t.id('gil')::int) ->> 'status';
SELECT flashsale.cancel_order(reason => 'late', order_id => t.id('fay')::int) ->> 'status';
SELECT flashsale.get_order(order_id => t.id('gil')::int) ->> 'status';
SELECT flashsale.item_availability(item_id => 1::smallint) ->> 'state';
SELECT flashsale.user_orders(user_id => 'gil') ->> 'success',
       flashsale.find_payment(payment_ref => 'pay-2') ->> 'success';
SELECT flashsale.refund_order(restock => false, order_id => t.id('gil')::int) ->> 'status';
SELECT flashsale.refund_payment(refund_ref => 're-2', payment_ref => 'pay-2') ->> 'status';
SELECT flashsale.reconcile_stale_reservations(max_orders => 5::smallint, older_than => '1 day') ->> 'success';
SELECT flashsale.restock_item(delta => 5::smallint, item_id => 1::smallint, reason => 'lorry') ->> 'success';
SELECT flashsale.pause_item(item_id => 1::smallint) ->> 'paused',
       flashsale.resume_item(item_id => 1::smallint) ->> 'paused';
SELECT * FROM flashsale.audit();
DEALLOCATE ALL;
