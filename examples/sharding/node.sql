-- Makes a server with the extension node :node of :nodes, and lets the router in. Its sequences go
-- on from the number :from, which is 1 in a new shop, and higher if nodes are added (docs/scaling.md). A superuser runs it:
--   psql -v ON_ERROR_STOP=1 -v node=0 -v nodes=4 -v from=1 -f node.sql

BEGIN;
SELECT flashsale.set_node(:node, :nodes);

SET LOCAL router.from_number = :from;
-- Ids from before must be below those from now on, by which a router tells them apart.
DO $$
DECLARE
    number bigint := current_setting('router.from_number');
    reached bigint := (SELECT greatest((SELECT max(pg_sequence_last_value(s.sequence)) FROM flashsale.id_sequences() AS s),
                                       (SELECT max(i.item_id) / n.nodes FROM flashsale.items AS i), 0)
                       FROM flashsale.node AS n);
BEGIN
    IF number <= reached THEN
        RAISE 'from is %: it must be above %, which ids of this server have reached', number, reached USING ERRCODE = '22023';
    END IF;
    PERFORM setval(s.sequence, number, false) FROM flashsale.id_sequences() AS s;
END $$;

-- As which the router connects. What a caller may do, the router's own grants decide.
SELECT 'CREATE ROLE router LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'router') \gexec
SELECT flashsale.grant_app('router'), flashsale.grant_operator('router');
COMMIT;
