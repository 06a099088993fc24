-- What buyers may call over HTTP, for servers that make an API of a schema, such as PostGraphile: see
-- docs/clients.md. A superuser runs it once, in the database that has flashsale.
--
-- Such servers know no overloads, so each function has a name of its own. Its answer is that of the
-- function of flashsale which it calls. Who the buyer is, the token of the request says, and never an
-- argument. What is not here, a buyer must not do: begin a payment and confirm it (the program that
-- charges the card does), refund, restock, look up a charge, or act for somebody else.

BEGIN;

-- Owns the functions, and may do what an application may. Nobody logs in as it.
CREATE ROLE shop_api NOLOGIN;
-- Requests run as this role, which may call the functions of the schema api and nothing else.
CREATE ROLE shop_visitor NOLOGIN;
-- The server logs in as this role, which may do nothing but become shop_visitor.
CREATE ROLE shop_web LOGIN NOINHERIT;
GRANT shop_visitor TO shop_web;
SELECT flashsale.grant_app('shop_api');

CREATE SCHEMA api AUTHORIZATION shop_api; -- the server exposes this schema
CREATE SCHEMA api_private AUTHORIZATION shop_api; -- and not this one
SET LOCAL ROLE shop_api;

-- The claim "sub" of the token, which the server verifies and sets for the request's transaction.
CREATE FUNCTION api_private.buyer() RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    buyer text := nullif(current_setting('jwt.claims.sub', true), '');
BEGIN
    IF buyer IS NULL THEN
        RAISE 'you are not signed in' USING ERRCODE = '28000';
    END IF;
    RETURN buyer;
END $$;

CREATE FUNCTION api.item(item_id bigint) RETURNS jsonb
LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT flashsale.item_availability(item_id)
$$;

-- The key is not optional: whoever did not get the answer repeats the request. The server opens a
-- transaction for each request, in which the strategy grouped would be refused.
CREATE FUNCTION api.purchase(item_id bigint, idempotency_key text, quantity bigint DEFAULT 1) RETURNS jsonb
LANGUAGE sql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT flashsale.purchase_item(item_id, api_private.buyer(), quantity, idempotency_key, 'atomic')
$$;

CREATE FUNCTION api.my_orders() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT flashsale.user_orders(api_private.buyer())
$$;

-- Somebody else's order is answered as one that does not exist.
CREATE FUNCTION api.my_order(order_ref text) RETURNS jsonb
LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN found ->> 'user_id' = api_private.buyer() THEN found
        ELSE jsonb_build_object('success', false, 'reason', 'order_not_found', 'retryable', false,
                                'message', 'You have no such order.', 'order_ref', order_ref)
    END
    FROM flashsale.get_order(order_ref) found
$$;

CREATE FUNCTION api.cancel_my_order(order_ref text) RETURNS jsonb
LANGUAGE sql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN own -> 'success' = 'true' THEN flashsale.cancel_order(order_ref, 'cancelled by the buyer')
        ELSE own
    END
    FROM api.my_order(order_ref) own
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA api, api_private FROM PUBLIC;
GRANT USAGE ON SCHEMA api TO shop_visitor;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA api TO shop_visitor;

COMMIT;
