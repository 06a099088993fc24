-- Privileges: none for any role until grant_app or grant_operator is called.

REVOKE ALL ON SCHEMA flashsale FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA flashsale FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA flashsale FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA flashsale FROM PUBLIC;
