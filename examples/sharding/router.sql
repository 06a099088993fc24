-- What a router needs besides the functions and views that proxies.sql writes; make-router puts the
-- number of nodes before it.

CREATE SCHEMA flashsale;
CREATE SCHEMA router;

-- ---- routing ------------------------------------------------------------------------------------

CREATE FUNCTION router.nodes() RETURNS integer LANGUAGE sql IMMUTABLE RETURN :nodes;

-- The node of an item or order. PL/Proxy wants a power of two for the number of nodes. A NULL is for
-- any node to refuse.
CREATE FUNCTION router.node_of(id bigint) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$ SELECT (coalesce(id, 0) & (router.nodes() - 1))::integer $$;

-- Items that move-item has brought to another node, and those of their orders whose ids name another
-- node. An order is where its item is. The same on all routers.
CREATE TABLE router.moved_items (item_id bigint PRIMARY KEY, node integer NOT NULL);
CREATE TABLE router.moved_orders (order_id bigint PRIMARY KEY, item_id bigint NOT NULL);

CREATE FUNCTION router.node_of_item(item_id bigint) RETURNS integer
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce((SELECT m.node FROM router.moved_items AS m WHERE m.item_id = $1), router.node_of($1));
END $$;

CREATE FUNCTION router.node_of_order(order_id bigint) RETURNS integer
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce((SELECT router.node_of_item(m.item_id) FROM router.moved_orders AS m WHERE m.order_id = $1), router.node_of($1));
END $$;

-- A text without an id is no order's ref. A charge that is reported for it is recorded at node 0, and so reports of it
-- go there however many nodes there are.
CREATE FUNCTION router.node_of_order(order_ref text) RETURNS integer
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN order_ref ~ '^[0-9]{1,18}(-|$)' THEN router.node_of_order(split_part(order_ref, '-', 1)::bigint)
                ELSE 0 END
$$;

-- A new item without an id goes anywhere.
CREATE FUNCTION router.node_for(item_id bigint) RETURNS integer
LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN item_id IS NULL THEN floor(random() * router.nodes())::integer ELSE router.node_of_item(item_id) END
$$;

-- Runs as the owner of the router, who has a user mapping; move-item may connect as another superuser.
CREATE FUNCTION router.order_ids(item_id bigint, node integer) RETURNS SETOF bigint
LANGUAGE plproxy SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    CLUSTER 'shop';
    RUN ON node;
    SELECT o.order_id FROM flashsale.orders AS o WHERE o.item_id = item_id;
$$;

-- Sends an item and its orders to the node where they are now.
CREATE FUNCTION router.route_item(item_id bigint, node integer) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO router.moved_items VALUES ($1, $2) ON CONFLICT ON CONSTRAINT moved_items_pkey DO UPDATE SET node = excluded.node;
    INSERT INTO router.moved_orders SELECT o, $1 FROM router.order_ids($1, $2) AS o WHERE router.node_of(o) <> $2
        ON CONFLICT DO NOTHING;
$$;

-- PL/Proxy raises its own errors as XX000. Clients repeat a call that has lost its connection, so that becomes 08006.
-- Such a message has a function of libpq after the name of the database, or an error without a severity, which is
-- libpq's own. Errors of the configuration, and internal errors of a node, stay XX000.
CREATE FUNCTION router.sqlstate_of(message text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN message ~ '] (PQ\w+:|REMOTE \(null\):)|: (query timeout$|poll\(\) failed:)' THEN '08006' ELSE 'XX000' END
$$;

-- ---- answers of all nodes made one, each in the order of the nodes ------------------------------

-- That of the node which knows the payment.
CREATE FUNCTION router.one_that_knows(answers jsonb[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT answer FROM unnest(answers) WITH ORDINALITY AS a (answer, place)
    ORDER BY answer -> 'success' = 'true' DESC, coalesce(answer -> 'retryable' = 'true', false) DESC,
             coalesce(answer ->> 'reason' = 'payment_not_found', false), place
    LIMIT 1
$$;

-- One with the orders of all, newest first, 100 at most.
CREATE FUNCTION router.all_orders(answers jsonb[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(
        (SELECT answer FROM unnest(answers) AS answer WHERE answer -> 'success' = 'true' LIMIT 1)
            || (SELECT jsonb_build_object('orders', jsonb_agg(o ORDER BY (o ->> 'created_at')::timestamptz DESC, o -> 'order_id' DESC))
                FROM (SELECT o FROM unnest(answers) AS answer, jsonb_array_elements(answer -> 'orders') AS o
                      ORDER BY (o ->> 'created_at')::timestamptz DESC, o -> 'order_id' DESC LIMIT 100) AS newest),
        answers[1])
$$;

-- Their sums.
CREATE FUNCTION router.sums(answers jsonb[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_object_agg(key, CASE jsonb_typeof(one) WHEN 'number' THEN to_jsonb(total) ELSE to_jsonb(is_any) END)
    FROM (SELECT key, min(value::text)::jsonb AS one,
                 sum(value::text::bigint) FILTER (WHERE jsonb_typeof(value) = 'number') AS total,
                 bool_or(value::text::boolean) FILTER (WHERE jsonb_typeof(value) = 'boolean') AS is_any
          FROM unnest(answers) AS answer, jsonb_each(answer) GROUP BY key) AS fields
$$;

-- ---- what goes to several nodes ------------------------------------------------------------------

-- The answers of one node to its part of a batch. All parts run at the same time.
CREATE FUNCTION router.batch_parts(parts integer[], requests jsonb[], strategy text, OUT node integer, OUT answers jsonb)
RETURNS SETOF record LANGUAGE plproxy AS $$
    CLUSTER 'shop';
    SPLIT parts, requests;
    RUN ON parts;
    SELECT (parts)[1] AS node, flashsale.purchase_batch((requests)[1], strategy) AS answers;
$$;

-- Each node sells its part in a transaction of its own. So if one raises an error, what others have sold
-- stays sold; whoever repeats the batch with the same keys gets these orders.
CREATE FUNCTION router.purchase_batch(requests jsonb, strategy text) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    nodes integer[]; -- of the requests; looked up once, because an item may be moved meanwhile
    parts integer[];
    of_parts jsonb[];
BEGIN
    -- What cannot be split is for one node to refuse.
    IF jsonb_typeof(requests) IS DISTINCT FROM 'array' OR jsonb_array_length(requests) NOT BETWEEN 1 AND 1000
        OR EXISTS (SELECT FROM jsonb_array_elements(requests) AS r WHERE jsonb_typeof(r -> 'item_id') IS DISTINCT FROM 'number')
    THEN
        RETURN (SELECT p.answers FROM router.batch_parts('{0}', ARRAY[requests], strategy) AS p);
    END IF;
    requests := router.to_allotments(requests);
    nodes := (SELECT array_agg(router.node_of_item((r ->> 'item_id')::numeric::bigint) ORDER BY n)
              FROM jsonb_array_elements(requests) WITH ORDINALITY AS e (r, n));
    SELECT array_agg(s.node), array_agg(s.requests) INTO parts, of_parts FROM (
        SELECT nodes[n::integer] AS node, jsonb_agg(r ORDER BY n) AS requests
        FROM jsonb_array_elements(requests) WITH ORDINALITY AS e (r, n) GROUP BY 1) AS s;
    RETURN router.with_fetched(requests, (
        WITH answers AS MATERIALIZED (SELECT * FROM router.batch_parts(parts, of_parts, strategy)),
             request AS (SELECT n, node, row_number() OVER (PARTITION BY node ORDER BY n) AS at
                         FROM unnest(nodes) WITH ORDINALITY AS e (node, n))
        SELECT jsonb_agg(a.answers -> (q.at - 1)::integer ORDER BY q.n) FROM request AS q JOIN answers AS a USING (node)), strategy);
END $$;

-- Which node a server is, if it is one, and what no other server has in common with it but its standbys.
CREATE FUNCTION router.server_of(node integer, OUT place text, OUT identity text)
LANGUAGE plproxy SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    CLUSTER 'shop';
    RUN ON node;
    SELECT (SELECT format('node %s of %s', n.node, n.nodes) FROM flashsale.node AS n) AS place,
           format('%s %s', c.system_identifier, current_database()) AS identity
    FROM pg_control_system() AS c;
$$;

CREATE FUNCTION router.health_of(node integer, OUT severity text, OUT problem text, OUT detail text, OUT hint text)
RETURNS SETOF record LANGUAGE plproxy AS $$
    CLUSTER 'shop';
    RUN ON node;
    SELECT h.* FROM flashsale.health() AS h;
$$;

-- With a row for a node that does not answer, or is another one.
CREATE FUNCTION router.health(OUT severity text, OUT problem text, OUT detail text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql AS $$
DECLARE
    place text;
BEGIN
    FOR node IN 0 .. router.nodes() - 1 LOOP
        BEGIN
            place := (router.server_of(node)).place;
            IF place IS DISTINCT FROM format('node %s of %s', node, router.nodes()) THEN
                RETURN QUERY SELECT 'error', 'wrong_node', format('node %s: its server is %s', node, coalesce(place, 'no node')),
                    'Change its address by ALTER SERVER shop OPTIONS (SET p' || node || ' ''host=…''), or its place by set_node.';
            END IF;
            RETURN QUERY SELECT h.severity, h.problem, format('node %s: %s', node, h.detail), h.hint FROM router.health_of(node) AS h;
        EXCEPTION WHEN OTHERS THEN
            RETURN QUERY SELECT 'error', 'node_unreachable', format('node %s: %s', node, SQLERRM),
                'Start its server, or change its address by ALTER SERVER shop OPTIONS (SET p' || node || ' ''host=…'').';
        END;
    END LOOP;
END $$;

CREATE FUNCTION router.reset_all() RETURNS SETOF integer LANGUAGE plproxy AS $$
    CLUSTER 'shop';
    RUN ON ALL;
    SELECT 1 AS done FROM flashsale.stats_reset();
$$;
