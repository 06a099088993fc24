-- Privileges: none for any role until grant_app or grant_operator is called, except that pg_monitor reads stats and health().

-- Not ALL ... IN SCHEMA: a schema that was made before may contain objects of the shop. And not only
-- PUBLIC: the shop's default privileges may have granted something to others.
DO $$
DECLARE
    own record;
BEGIN
    FOR own IN
        SELECT CASE o.type WHEN 'view' THEN 'table' ELSE o.type END AS kind, o.identity, granted.role
        FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
        CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) o
        CROSS JOIN LATERAL (
            SELECT 'PUBLIC' AS role
            UNION SELECT a.grantee::regrole::text FROM pg_catalog.aclexplode(CASE d.classid
                WHEN 'pg_catalog.pg_class'::regclass THEN (SELECT c.relacl FROM pg_catalog.pg_class c WHERE c.oid = d.objid)
                WHEN 'pg_catalog.pg_proc'::regclass THEN (SELECT p.proacl FROM pg_catalog.pg_proc p WHERE p.oid = d.objid)
                WHEN 'pg_catalog.pg_namespace'::regclass THEN (SELECT n.nspacl FROM pg_catalog.pg_namespace n WHERE n.oid = d.objid)
            END) a
            WHERE a.grantee NOT IN (0, e.extowner)
        ) granted
        WHERE e.extname = 'flashsale' AND o.type IN ('schema', 'table', 'view', 'sequence', 'function', 'procedure')
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s', own.kind, own.identity, own.role);
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA flashsale TO pg_monitor;
-- With the GRANT, PostgreSQL notes all privileges on the schema as the extension's own, and pg_dump leaves
-- those out. A schema that was made before is not the extension's, so the note is removed.
DO $$
BEGIN
    DELETE FROM pg_catalog.pg_init_privs i
    WHERE i.classoid = 'pg_catalog.pg_namespace'::regclass AND i.objoid = 'flashsale'::regnamespace
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = i.classoid AND d.objid = i.objoid AND d.deptype = 'e');
    IF FOUND THEN
        DELETE FROM pg_catalog.pg_shdepend -- of the note, from 17 on
        WHERE classid = 'pg_catalog.pg_namespace'::regclass AND objid = 'flashsale'::regnamespace AND deptype = 'i'
          AND dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database());
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION flashsale.read_stats() TO pg_monitor;
GRANT EXECUTE ON FUNCTION flashsale.health() TO pg_monitor;
GRANT SELECT ON flashsale.stats TO pg_monitor;
