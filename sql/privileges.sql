-- Privileges: nothing for anybody until grant_app and grant_operator say so.

REVOKE ALL ON SCHEMA flashsale FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA flashsale FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA flashsale FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA flashsale FROM PUBLIC;
