-- An item that one node alone sells too slowly is sold by several. Each has an allotment of its units: an
-- item of its own there. A buyer always buys of the same allotment, so keys and limits hold as they do on one
-- server. If it is sold out, units of another one are moved to it first: so all units are sold, and nobody
-- is refused while there are any.

-- By the id that callers use, which is that of the first allotment. The same on all routers.
CREATE TABLE router.split_items (
    item_id    bigint   PRIMARY KEY,
    allotments bigint[] NOT NULL CHECK (allotments[1] = item_id)
);

CREATE FUNCTION router.allotments(item_id bigint) RETURNS bigint[]
LANGUAGE sql STABLE AS $$ SELECT coalesce((SELECT s.allotments FROM router.split_items s WHERE s.item_id = $1), ARRAY[$1]) $$;

CREATE FUNCTION router.allotment(item_id bigint, user_id text) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT a[1 + (hashtext(user_id) & 2147483647) % cardinality(a)] FROM router.allotments(item_id) AS a
$$;

CREATE FUNCTION router.purchase(item_id bigint, user_id text, quantity bigint, idempotency_key text, strategy text) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    allotment bigint := router.allotment(item_id, coalesce(user_id, ''));
    answer jsonb;
BEGIN
    LOOP
        answer := router.purchase_item(allotment, user_id, quantity, idempotency_key, strategy);
        IF answer ->> 'reason' IS DISTINCT FROM 'out_of_stock' OR NOT router.fetch(item_id, allotment, quantity) THEN
            RETURN answer;
        END IF;
    END LOOP;
END $$;

-- The requests of a batch, each for the allotment of its buyer.
CREATE FUNCTION router.to_allotments(requests jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_agg(CASE WHEN s.item_id IS NULL THEN r
                          ELSE r || jsonb_build_object('item_id', router.allotment(s.item_id, coalesce(r ->> 'user_id', ''))) END ORDER BY n)
    FROM jsonb_array_elements(requests) WITH ORDINALITY AS e (r, n)
    LEFT JOIN router.split_items s ON s.item_id = (r ->> 'item_id')::numeric::bigint
$$;

-- The answers of a batch: who was refused for want of units gets those of other allotments.
CREATE FUNCTION router.with_fetched(requests jsonb, answers jsonb, strategy text) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    refused record;
    too_many bigint; -- of an item; so many there are not
    of_item bigint;
BEGIN
    FOR refused IN
        SELECT (n - 1)::text AS place, r, s.item_id, (r ->> 'item_id')::bigint AS allotment, coalesce((r ->> 'quantity')::numeric::bigint, 1) AS quantity
        FROM jsonb_array_elements(requests) WITH ORDINALITY AS e (r, n)
        JOIN router.split_items s ON (r ->> 'item_id')::numeric::bigint = ANY (s.allotments)
        WHERE answers -> (n - 1)::integer ->> 'reason' = 'out_of_stock' ORDER BY s.item_id, n
    LOOP
        CONTINUE WHEN refused.item_id = of_item AND refused.quantity >= too_many;
        IF router.fetch(refused.item_id, refused.allotment, refused.quantity) THEN
            answers := jsonb_set(answers, ARRAY[refused.place], router.purchase(refused.item_id, refused.r ->> 'user_id',
                refused.quantity, refused.r ->> 'idempotency_key', strategy));
        ELSE
            of_item := refused.item_id;
            too_many := refused.quantity;
        END IF;
    END LOOP;
    RETURN answers;
END $$;

-- ---- moving units -----------------------------------------------------------------------------------

CREATE FUNCTION router.free(allotment bigint) RETURNS bigint
LANGUAGE sql AS $$ SELECT coalesce((router.item_availability(allotment) ->> 'remaining_inventory')::bigint, 0) $$;

-- Moves units of other allotments to one that has fewer than are wanted. False if there are not enough.
CREATE FUNCTION router.fetch(item_id bigint, allotment bigint, wanted bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    other record;
BEGIN
    IF cardinality(router.allotments(item_id)) = 1
        OR (SELECT sum(router.free(a)) FROM unnest(router.allotments(item_id)) AS a) < wanted THEN
        RETURN false;
    END IF;
    -- One at a time, and only if the one before has not fetched enough.
    PERFORM pg_advisory_xact_lock(allotment);
    IF router.free(allotment) >= wanted THEN
        RETURN true;
    END IF;
    FOR other IN SELECT a AS id, router.free(a) AS units FROM unnest(router.allotments(item_id)) AS a WHERE a <> allotment ORDER BY 2 DESC LOOP
        IF other.units > 0 AND router.move(other.id, allotment, greatest(least(wanted, other.units), other.units / 2)) THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$;

-- What has left an allotment says where it goes, so finish_moves() brings it there if this is interrupted.
CREATE FUNCTION router.move(source bigint, target bigint, units bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    key text := gen_random_uuid();
BEGIN
    IF router.restock_item(source, -units, format('moved to %s', target), key) -> 'success' <> 'true' THEN
        RETURN false;
    END IF;
    RETURN router.restock_item(target, units, format('moved from %s', source), key) -> 'success' = 'true';
END $$;

-- Units that have left an allotment and have not arrived.
CREATE FUNCTION router.unfinished_moves(OUT source bigint, OUT target bigint, OUT units bigint, OUT idempotency_key text, OUT created_at timestamptz)
RETURNS SETOF record LANGUAGE sql AS $$
    SELECT m.item_id, substring(m.reason FROM '^moved to (\d+)$')::bigint, -m.delta, m.idempotency_key, m.created_at
    FROM router.stock_movements() AS m
    WHERE m.reason ~ '^moved to \d+$'
      AND NOT EXISTS (SELECT FROM router.stock_movements() AS t
                      WHERE t.idempotency_key = m.idempotency_key AND t.reason = format('moved from %s', m.item_id))
$$;

CREATE FUNCTION router.finish_moves() RETURNS bigint
LANGUAGE sql AS $$
    SELECT coalesce(sum(m.units) FILTER (WHERE router.restock_item(m.target, m.units, format('moved from %s', m.source), m.idempotency_key) -> 'success' = 'true'), 0)
    FROM router.unfinished_moves() AS m
$$;

-- ---- what callers see ----------------------------------------------------------------------------------

-- That of all allotments: units of one are sold by all.
CREATE FUNCTION router.availability(item_id bigint) RETURNS jsonb
LANGUAGE sql AS $$
    WITH answers AS MATERIALIZED (SELECT router.item_availability(a) AS answer FROM unnest(router.allotments(item_id)) AS a)
    SELECT answer || jsonb_build_object('item_id', $1) || CASE WHEN answer ? 'remaining_inventory' THEN
        jsonb_build_object('remaining_inventory', (SELECT sum((answer ->> 'remaining_inventory')::bigint) FROM answers)) ELSE '{}' END
    FROM answers ORDER BY (answer ->> 'remaining_inventory')::bigint DESC LIMIT 1
$$;

-- What is added is shared out, and what is taken away is fetched together first.
CREATE FUNCTION router.restock(item_id bigint, delta bigint, reason text, idempotency_key text) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    answer jsonb;
BEGIN
    LOOP
        answer := router.restock_item(item_id, delta, reason, idempotency_key);
        EXIT WHEN answer ->> 'reason' IS DISTINCT FROM 'not_enough_free' OR NOT router.fetch(item_id, item_id, -delta);
    END LOOP;
    IF delta > 0 AND cardinality(router.allotments(item_id)) > 1 THEN
        PERFORM router.rebalance(item_id);
    END IF;
    RETURN answer;
END $$;

CREATE FUNCTION router.pause(item_id bigint) RETURNS jsonb
LANGUAGE sql AS $$ SELECT (array_agg(router.pause_item(a)))[1] FROM unnest(router.allotments(item_id)) AS a $$;

CREATE FUNCTION router.resume(item_id bigint) RETURNS jsonb
LANGUAGE sql AS $$ SELECT (array_agg(router.resume_item(a)))[1] FROM unnest(router.allotments(item_id)) AS a $$;

-- ---- operators ----------------------------------------------------------------------------------------

CREATE FUNCTION router.create_on(node integer, name text, unit_price bigint, currency text, max_per_user integer,
    starts_at timestamptz, ends_at timestamptz, reservation_ttl interval) RETURNS bigint
LANGUAGE plproxy AS $$
    CLUSTER 'shop';
    RUN ON node;
    SELECT flashsale.create_item(0, name, unit_price, currency, max_per_user, starts_at, ends_at, reservation_ttl);
$$;

-- Splits an item over all nodes, before it has orders: a buyer's key is known to one allotment only. It must be
-- paused, so that it gets none meanwhile, and stays so, because other routers do not know its allotments yet.
CREATE FUNCTION router.split_item(item_id bigint) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    item record;
    allotments bigint[] := ARRAY[item_id];
BEGIN
    SELECT * INTO item FROM router.items() AS i WHERE i.item_id = split_item.item_id;
    IF NOT FOUND THEN
        RAISE 'item_id is %: there is no such item', item_id USING ERRCODE = '22023';
    END IF;
    IF EXISTS (SELECT FROM router.split_items AS s WHERE split_item.item_id = ANY (s.allotments)) THEN
        RAISE 'item_id is %: the item is split already', item_id USING ERRCODE = '22023';
    END IF;
    IF NOT item.paused THEN
        RAISE 'item_id is %: pause the item before you split it', item_id USING ERRCODE = '22023';
    END IF;
    IF item.inventory IS DISTINCT FROM item.stock OR item.cancelled_units + item.expired_units + item.refunded_units <> 0 THEN
        RAISE 'item_id is %: an item can be split only before it has orders', item_id USING ERRCODE = '22023';
    END IF;
    FOR node IN 0 .. router.nodes() - 1 LOOP
        CONTINUE WHEN node = router.node_of_item(item_id);
        allotments := allotments || router.create_on(node, item.name, item.unit_price, item.currency, item.max_per_user,
                                                     item.starts_at, item.ends_at, item.reservation_ttl);
    END LOOP;
    INSERT INTO router.split_items VALUES (item_id, allotments);
    PERFORM router.pause(item_id);
    RETURN allotments;
END $$;

-- Shares the free units of an item out among its allotments; returns how many were moved.
CREATE FUNCTION router.rebalance(item_id bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    richest record;
    poorest record;
    units bigint;
    moved bigint := 0;
BEGIN
    LOOP
        SELECT a AS id, router.free(a) AS units INTO richest FROM unnest(router.allotments(item_id)) AS a ORDER BY 2 DESC LIMIT 1;
        SELECT a AS id, router.free(a) AS units INTO poorest FROM unnest(router.allotments(item_id)) AS a ORDER BY 2 LIMIT 1;
        units := (richest.units - poorest.units) / 2;
        IF units = 0 OR NOT router.move(richest.id, poorest.id, units) THEN
            RETURN moved;
        END IF;
        moved := moved + units;
    END LOOP;
END $$;
