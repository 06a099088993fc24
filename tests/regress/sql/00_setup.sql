-- Installs the extension and the helpers (schema t) with which the other files show answers.
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS flashsale;
DROP SCHEMA IF EXISTS t CASCADE;
CREATE EXTENSION flashsale;

CREATE SCHEMA t; -- its functions hold on to pg_catalog, for tests that set traps in the search_path
GRANT USAGE ON SCHEMA t TO PUBLIC;

-- Every file starts on empty tables, so none depends on another.
CREATE PROCEDURE t.reset() LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    TRUNCATE flashsale.orders, flashsale.payments, flashsale.stock_movements;
    TRUNCATE flashsale.items;
    PERFORM setval('flashsale.' || name || '_seq', 1, false)
    FROM unnest('{items_item_id,orders_order_id,payments_payment_id,stock_movements_movement_id}'::text[]) AS name;
END $$;

-- Order ids are shown by their buyer: alice is her first order, alice/2 the second.
CREATE FUNCTION t.name(id bigint) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((
        SELECT o.user_id || coalesce('/' || nullif(count(*), 1), '')
        FROM flashsale.orders o JOIN flashsale.orders earlier
          ON earlier.user_id = o.user_id AND earlier.order_id <= o.order_id
        WHERE o.order_id = id GROUP BY o.user_id), id::text)
$$;
CREATE FUNCTION t.id(name text) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT order_id FROM flashsale.orders WHERE user_id = split_part($1, '/', 1) AND t.name(order_id) = $1
$$;

-- Their refs, too, since they are random.
CREATE FUNCTION t.ref(name text) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT order_id || '-' || ref_code FROM flashsale.orders WHERE order_id = t.id(name)
$$;
CREATE FUNCTION t.ref_name(ref text) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT 'ref of ' || t.name(order_id) FROM flashsale.orders WHERE order_id || '-' || ref_code = ref), ref)
$$;

-- One value of an answer; a value that differs from run to run is replaced by its kind.
CREATE FUNCTION t.value(key text, value jsonb) RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE iso CONSTANT text := '^"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d(:\d\d)?|Z)"$';
BEGIN
    RETURN CASE
        WHEN jsonb_typeof(value) = 'object'
            THEN (SELECT jsonb_object_agg(e.key, t.value(e.key, e.value)) FROM jsonb_each(value) e)
        WHEN jsonb_typeof(value) = 'array'
            THEN (SELECT coalesce(jsonb_agg(t.value(key, e.value) ORDER BY n), '[]')
                  FROM jsonb_array_elements(value) WITH ORDINALITY AS e (value, n))
        WHEN key IN ('order_id', 'order_ids') AND jsonb_typeof(value) = 'number' THEN to_jsonb(t.name(value::bigint))
        WHEN key ~ '(_at|_since|_deadline)$' AND value::text ~ iso THEN '"time"'
        WHEN key = 'order_ref' AND jsonb_typeof(value) = 'string' THEN to_jsonb(t.ref_name(value #>> '{}'))
        WHEN key = 'retry_after_ms' AND value::text ~ '^[1-9]\d*$' THEN '"ms"'
        WHEN value = to_jsonb(session_user::text) AND key ~ '_by$' THEN '"me"'
        ELSE value END;
END $$;

-- An answer for comparison: a well-formed message is dropped, an ill-formed one stays visible.
CREATE FUNCTION t.answer(answer jsonb) RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.value('', CASE WHEN answer ->> 'message' ~ '^\w[^{}%]* [^{}%]*\S$' AND answer -> 'success' = 'false'
                       THEN answer - 'message' ELSE answer END)
$$;

-- The error a statement raises.
CREATE FUNCTION t.error(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text; hint text;
BEGIN
    IF statement ^@ 'SELECT' THEN EXECUTE statement INTO result; ELSE EXECUTE statement; END IF;
    RETURN 'no error: ' || coalesce(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    -- From 17 on the bounds of a range have units.
    RETURN sqlstate || ': ' || regexp_replace(sqlerrm, '\((\d+) m?s \.\. (\d+) m?s\)', '(\1 .. \2)') || coalesce(' HINT: ' || nullif(hint, ''), '');
END $$;

-- Where an item's units are.
CREATE FUNCTION t.stock(id bigint) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('inventory %s + held %s = stock %s', inventory,
                  (SELECT coalesce(sum(units_held), 0) FROM flashsale.orders o WHERE o.item_id = id), stock)
    FROM flashsale.items WHERE item_id = id
$$;
-- The orders in the order they were made, without their times.
CREATE FUNCTION t.orders(OUT name text, OUT item_id bigint, OUT status text, OUT quantity bigint, OUT units_held bigint,
                         OUT close_reason text) RETURNS SETOF record
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.name(order_id), item_id, status, quantity, units_held, close_reason FROM flashsale.orders ORDER BY order_id
$$;
-- The payments in the order they were reported, without their times.
CREATE FUNCTION t.payments(OUT payment_ref text, OUT name text, OUT status text, OUT why text, OUT amount bigint,
                           OUT currency text, OUT refund_ref text) RETURNS SETOF record
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT payment_ref, t.name(order_id), status, why, amount, currency, refund_ref
    FROM flashsale.payments ORDER BY payment_id
$$;
-- Makes a reservation stale without waiting for it.
CREATE PROCEDURE t.make_stale(name text) LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 second' WHERE order_id = t.id(name)
$$;
