-- The scenarios with psql. Other transactions are prepared ones, or those of another psql.

\set purchase 'SELECT flashsale.purchase_item(:item, ''alice'') AS answer'
\set new_item 'SELECT flashsale.create_item(10, unit_price => 500, currency => ''EUR'') AS item'
\set free 'flashsale.item_availability(:item) -> ''remaining_inventory'''

:new_item \gset
:purchase \gset
SELECT CASE WHEN :'answer'::jsonb @> '{"success": true, "status": "reserved"}' AND :free = '9'
            THEN 'ok purchase' ELSE 'not ok purchase: ' || :'answer' END;

:new_item \gset
SELECT flashsale.purchase_item(:item, 'alice', idempotency_key => 'basket') AS first \gset
SELECT flashsale.purchase_item(:item, 'alice', idempotency_key => 'basket') AS again \gset
SELECT CASE WHEN :'first'::jsonb || '{"replayed": true}' = :'again' AND :'first'::jsonb ->> 'replayed' = 'false' AND :free = '9'
            THEN 'ok key' ELSE 'not ok key: ' || :'again' END;

:new_item \gset
BEGIN;
SELECT flashsale.purchase_item(:item, 'bob') AS other \gset
PREPARE TRANSACTION 'bob';
:purchase \gset
COMMIT PREPARED 'bob';
SELECT flashsale.purchase_item(:item, 'alice') AS later \gset
SELECT CASE WHEN :'answer'::jsonb @> '{"success": false, "reason": "busy", "retryable": true}'
             AND (:'answer'::jsonb -> 'retry_after_ms')::int > 0 AND :'later'::jsonb @> '{"success": true}' AND :free = '8'
            THEN 'ok busy' ELSE 'not ok busy: ' || :'answer' END;

SELECT flashsale.create_item(1) AS item \gset
SELECT flashsale.purchase_item(:item, 'bob') AS first \gset
:purchase \gset
SELECT CASE WHEN :'first'::jsonb @> '{"success": true}'
             AND :'answer'::jsonb @> '{"reason": "out_of_stock", "retryable": false, "remaining_inventory": 0}'
            THEN 'ok sold-out' ELSE 'not ok sold-out: ' || :'answer' END;

:new_item \gset
SELECT flashsale.purchase_item(:item, 'alice', 2) ->> 'order_ref' AS ref \gset
SELECT flashsale.begin_payment(:'ref') AS begun \gset
SELECT flashsale.confirm_order(:'ref', 'charge ' || :'ref', 1000, 'EUR') AS answer \gset
SELECT flashsale.get_order(:'ref') AS found \gset
SELECT CASE WHEN :'begun'::jsonb @> '{"status": "paying"}' AND :'answer'::jsonb @> '{"status": "confirmed"}'
             AND :'found'::jsonb -> 'total' = '1000' AND :'found'::jsonb #>> '{payments,0,payment_ref}' = 'charge ' || :'ref'
            THEN 'ok payment' ELSE 'not ok payment: ' || :'answer' END;

:new_item \gset
:purchase \gset
SELECT :'answer'::jsonb ->> 'order_ref' AS ref, :'answer'::jsonb ->> 'order_id' AS id \gset
SELECT CASE WHEN flashsale.get_order(:'ref') ->> 'order_id' = :'id' AND flashsale.get_order(:id) ->> 'order_ref' = :'ref'
             AND flashsale.get_order(:'id') ->> 'order_ref' = :'ref'
             AND flashsale.get_order(:'id' || '-0000000000') ->> 'reason' = 'order_not_found'
             AND flashsale.cancel_order(:id) ->> 'restored' = '1'
            THEN 'ok ref' ELSE 'not ok ref: ' || :'answer' END;

SELECT flashsale.create_item(2) AS item \gset
SELECT flashsale.purchase_batch(jsonb_agg(jsonb_build_object('item_id', :item, 'user_id', name))) AS answer
FROM unnest('{alice, bob, carol}'::text[]) name \gset
SELECT CASE WHEN jsonb_path_query_array(:'answer', '$[*].success') = '[true, true, false]'
            THEN 'ok batch' ELSE 'not ok batch: ' || :'answer' END;

:new_item \gset
SELECT flashsale.purchase_item(:item, 'alice', 0);
\set state :SQLSTATE
\set message :LAST_ERROR_MESSAGE
:purchase \gset
SELECT CASE WHEN :'state' = '22023' AND :'message' = 'quantity is 0: it must be at least 1' AND :'answer'::jsonb @> '{"success": true}'
            THEN 'ok error' ELSE 'not ok error: ' || :'message' END;

:new_item \gset
BEGIN;
SELECT flashsale.purchase_item(:item, 'alice', 11) AS refused \gset
:purchase \gset
ROLLBACK;
SELECT CASE WHEN :'refused'::jsonb @> '{"reason": "out_of_stock"}' AND :'answer'::jsonb @> '{"success": true}' AND :free = '10'
            THEN 'ok transaction' ELSE 'not ok transaction: ' || :'answer' END;

:new_item \gset
SELECT flashsale.purchase_item(:item, 'alice', strategy => 'grouped') AS answer \gset
BEGIN;
SELECT flashsale.purchase_item(:item, 'alice', strategy => 'grouped');
\set state :SQLSTATE
ROLLBACK;
SELECT CASE WHEN :'answer'::jsonb @> '{"status": "reserved"}' AND :'state' = '25001' AND :free = '9'
            THEN 'ok grouped' ELSE 'not ok grouped: ' || :'answer' END;

:new_item \gset
\setenv ITEM :item
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT :free AS seen \gset
\! psql -Xqc "SELECT flashsale.purchase_item($ITEM, 'bob')" >/dev/null
:purchase;
\set state :SQLSTATE
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
:purchase \gset
COMMIT;
SELECT CASE WHEN :'state' = '40001' AND :'answer'::jsonb @> '{"success": true}' AND :free = '8'
            THEN 'ok serialization' ELSE 'not ok serialization: ' || :'answer' END;

:new_item \gset
\o /dev/null
SELECT replace(:'purchase', ':item', :'item') FROM generate_series(1, 10) \gexec
\o
SELECT CASE WHEN :free = '0' AND count(*) = 10
            THEN 'ok repeated' ELSE 'not ok repeated: ' || count(*) END
FROM flashsale.orders WHERE item_id = :item;

:new_item \gset
SELECT flashsale.purchase_item(:item, 42) ->> 'order_ref' AS ref \gset
SELECT flashsale.purchase_item(:item, '6b29fc40-ca47-1067-b31d-00dd010662da'::uuid) ->> 'order_ref' AS other \gset
SELECT flashsale.get_order(:'ref') AS answer \gset
SELECT CASE WHEN :'answer'::jsonb @> '{"user_id": "42", "idempotency_key": null, "paying_at": null}'
             AND (:'answer'::jsonb ->> 'expires_at')::timestamptz > now()
             AND flashsale.get_order(:'other') ->> 'user_id' = '6b29fc40-ca47-1067-b31d-00dd010662da'
            THEN 'ok types' ELSE 'not ok types: ' || :'answer' END;
