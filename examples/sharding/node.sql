-- Makes a server with the extension node :node of :nodes, and lets the router in. A superuser runs it once:
--   psql -v ON_ERROR_STOP=1 -v node=0 -v nodes=4 -f node.sql

SELECT flashsale.set_node(:node, :nodes);

-- As which the router connects. What a caller may do, the router's own grants decide.
CREATE ROLE router LOGIN;
SELECT flashsale.grant_app('router'), flashsale.grant_operator('router');
