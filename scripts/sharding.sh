# shellcheck shell=bash
# Sourced by the tests of examples/sharding, which run in with-router.
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
# shellcheck source=scripts/checks.sh
. "$root/scripts/checks.sh"

: "${NODES:?run it in with-router}"
read -ra nodes <<<"$NODES"
ask() { psql -XqAt -v ON_ERROR_STOP=1 "$@"; }
# The same for a check, which then fails.
got() { ask "$@" 2>&1 || true; }
# On a node: on NODE OPTION...
on() { ask -h "${nodes[$1]%=*}" -d flashsale "${@:2}"; }
# A number, summed over all nodes: sum SQL
sum() {
    local node
    for node in "${!nodes[@]}"; do on "$node" -c "$1"; done | awk '{ total += $1 } END { print total }'
}
# The SQLSTATE of a statement.
sqlstate() { ask -v VERBOSITY=sqlstate "$@" 2>&1 | sed -n 's/^ERROR: *//p'; }
# What audits find, on each node and through the router.
audits() {
    local node
    for node in "${!nodes[@]}"; do on "$node" -c 'SELECT * FROM flashsale.audit()' 2>&1; done
    got -U shop_operator -c 'SELECT * FROM flashsale.audit()'
}
# As the application: app EXPRESSION...
app() { got -U shop_app -c "SELECT ${*}"; }

# The roles shop_app and shop_operator on the router.
make_roles() {
    ask -c 'CREATE ROLE shop_app LOGIN' -c 'CREATE ROLE shop_operator LOGIN' \
        -c "SELECT flashsale.grant_app('shop_app'), flashsale.grant_operator('shop_operator')" >/dev/null
}

# split ITEM
split() {
    ask -c "SELECT flashsale.pause_item($1)" -c "SELECT router.split_item($1)" -c "SELECT router.rebalance($1)" \
        -c "SELECT flashsale.resume_item($1)" >/dev/null
}

# pg_ctl for a server: control DATA OPTION...
control() { (cd / && ${PG_RUN_AS:-} "$PG_BINDIR/pg_ctl" -D "$@" >/dev/null); }
# For a node: server NODE OPTION...
server() { control "${nodes[$1]#*=}" "${@:2}"; }
