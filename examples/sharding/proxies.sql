-- Prints, on a node, the router's counterpart of each function and view that grant_app or
-- grant_operator opens there: with the same name, arguments and result. So after an update of the
-- extension they are made anew, and a function that this file does not know fails here:
--   psql -XqAt -v ON_ERROR_STOP=1 -f proxies.sql

BEGIN; -- rolled back
CREATE ROLE app_of_router;
CREATE ROLE operator_of_router;
SELECT flashsale.grant_app('app_of_router'), flashsale.grant_operator('operator_of_router') \g /dev/null

CREATE TEMP VIEW opened AS
SELECT p.oid, p.proname AS name,
       pg_get_function_arguments(p.oid) AS arguments, pg_get_function_identity_arguments(p.oid) AS types,
       pg_get_function_result(p.oid) AS result, p.proretset AS is_set,
       CASE WHEN p.pronargs > 0 THEN p.proargnames[1] END AS first_argument,
       (SELECT string_agg('$' || n, ', ' ORDER BY n) FROM generate_series(1, p.pronargs) AS n) AS numbered,
       has_function_privilege('app_of_router', p.oid, 'EXECUTE') AS is_for_app,
       has_function_privilege('operator_of_router', p.oid, 'EXECUTE') AS is_for_operator
FROM pg_proc p
WHERE p.pronamespace = 'flashsale'::regnamespace
  AND (has_function_privilege('app_of_router', p.oid, 'EXECUTE') OR has_function_privilege('operator_of_router', p.oid, 'EXECUTE'))
  AND p.proname <> 'stock_adds_up'; -- of a CHECK

CREATE TEMP VIEW opened_relation AS
SELECT oid, relname FROM pg_class
WHERE relnamespace = 'flashsale'::regnamespace AND relkind IN ('r', 'v') AND has_table_privilege('operator_of_router', oid, 'SELECT')
  AND relname <> 'node';

-- ---- views: the rows of all nodes -----------------------------------------------------------------

SELECT format($$CREATE FUNCTION router.%1$I() RETURNS TABLE (%2$s) LANGUAGE plproxy SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
    'CLUSTER ''shop''; RUN ON ALL; SELECT t.* FROM flashsale.%1$I AS t;';
CREATE VIEW flashsale.%1$I AS SELECT * FROM router.%1$I();$$,
    c.relname, (SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
                FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
FROM opened_relation c ORDER BY c.oid;

-- ---- functions --------------------------------------------------------------------------------------

-- How a function is answered: by the node of its first argument, by all nodes, or by a function of router.sql.
CREATE TEMP VIEW counterpart AS
SELECT o.*, m.made_one_by, CASE
    WHEN name = 'create_item' THEN 'RUN ON router.node_for(item_id);'
    WHEN first_argument = 'item_id' THEN 'RUN ON router.node_of_item(item_id);'
    WHEN first_argument IN ('order_id', 'order_ref') THEN format('RUN ON router.node_of_order(%I);', first_argument)
    WHEN made_one_by IS NOT NULL OR (is_set AND first_argument IS NULL AND name <> 'health') THEN 'RUN ON ALL;'
    END AS run_on, CASE
    WHEN name = 'purchase_item' THEN 'router.purchase($1, $2::text, $3, $4, $5)' -- of an item that may be split
    WHEN name = 'item_availability' THEN 'router.availability($1)'
    WHEN name = 'restock_item' THEN 'router.restock($1, $2, $3, $4)'
    WHEN name = 'pause_item' THEN 'router.pause($1)'
    WHEN name = 'resume_item' THEN 'router.resume($1)'
    WHEN made_one_by IS NOT NULL THEN format('(SELECT router.%I(array_agg(answer)) FROM router.%I(%s) AS answer)', made_one_by, name, numbered)
    ELSE format('router.%I(%s)', name, numbered)
    END AS answer, CASE name
    WHEN 'health' THEN 'SELECT * FROM router.health()'
    WHEN 'stats_reset' THEN 'SELECT FROM router.reset_all()'
    END AS statement
FROM opened o
CROSS JOIN LATERAL (SELECT CASE name
    WHEN 'find_payment' THEN 'one_that_knows' WHEN 'refund_payment' THEN 'one_that_knows'
    WHEN 'user_orders' THEN 'all_orders' WHEN 'reconcile_stale_reservations' THEN 'sums' END AS made_one_by) AS m;

DO $$
DECLARE unknown text := (SELECT string_agg(oid::regprocedure::text, ', ') FROM counterpart
                         WHERE coalesce(run_on, statement) IS NULL AND name NOT IN ('purchase_batch', 'item_state'));
BEGIN
    IF unknown IS NOT NULL THEN RAISE 'proxies.sql does not know how to route %', unknown; END IF;
END $$;

-- In the schema router, what passes a call on.
SELECT format('CREATE FUNCTION router.%1$I(%2$s) RETURNS %3$s%4$s LANGUAGE plproxy AS %5$L;',
    name, arguments, CASE WHEN made_one_by IS NOT NULL THEN 'SETOF ' END, result,
    format('CLUSTER ''shop''; %s TARGET flashsale.%I;', run_on, name))
FROM counterpart WHERE run_on IS NOT NULL AND NOT is_set ORDER BY oid;

SELECT CASE
    WHEN name = 'item_state' THEN pg_get_functiondef(oid) || ';' -- it reads nothing
    ELSE format('CREATE FUNCTION flashsale.%I(%s) RETURNS %s LANGUAGE %s SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS %L;',
        name, arguments, result,
        CASE WHEN statement IS NOT NULL THEN 'sql' WHEN is_set THEN 'plproxy' ELSE 'plpgsql' END,
        CASE WHEN statement IS NOT NULL THEN statement
             WHEN is_set THEN 'CLUSTER ''shop''; ' || run_on
             ELSE format($$BEGIN
    RETURN %s;
EXCEPTION WHEN internal_error THEN
    RAISE USING ERRCODE = router.sqlstate_of(SQLERRM), MESSAGE = SQLERRM;
END$$, answer) END)
    END
FROM counterpart ORDER BY oid;

-- ---- privileges -------------------------------------------------------------------------------------

SELECT 'REVOKE ALL ON ALL FUNCTIONS IN SCHEMA flashsale, router FROM PUBLIC;';

SELECT format('CREATE FUNCTION flashsale.%I(role regrole) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS %L;',
    'grant_' || who, format($$BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA flashsale TO %%1$s; GRANT EXECUTE ON FUNCTION %s TO %%1$s;%s', role);
END$$, functions, views))
FROM (
    SELECT 'app' AS who, string_agg(format('flashsale.%I(%s)', name, types), ', ') AS functions, '' AS views
    FROM opened WHERE is_for_app
    UNION ALL
    SELECT 'operator', string_agg(format('flashsale.%I(%s)', name, types), ', '),
           (SELECT format(' GRANT USAGE ON SCHEMA router TO %%1$s; GRANT SELECT ON %s TO %%1$s; GRANT EXECUTE ON FUNCTION %s TO %%1$s;',
                          string_agg(format('flashsale.%I', relname), ', '), string_agg(format('router.%I()', relname), ', '))
            FROM opened_relation)
    FROM opened WHERE is_for_operator) AS sets;
SELECT 'REVOKE ALL ON FUNCTION flashsale.grant_app(regrole), flashsale.grant_operator(regrole) FROM PUBLIC;';

ROLLBACK;
