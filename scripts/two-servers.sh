# shellcheck shell=bash
# Sourced by tests that take a sale from PostgreSQL FROM_MAJOR, by default 15, to PG_MAJOR. The extension must be built
# for both. However such a test ends, its servers are stopped and their folder is removed; if it fails, the end of their
# log is shown.
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
# shellcheck source=scripts/checks.sh
. "$root/scripts/checks.sh"

from=${FROM_MAJOR:-15}
if [ "$PG_MAJOR" -le "$from" ]; then
    die "PG_MAJOR is $PG_MAJOR: choose a later version, to which a server with PostgreSQL $from is taken"
fi
# shellcheck disable=SC2016 # the other shell expands it
old_bin=$(PG_MAJOR=$from bash -c '. "$0/scripts/env.sh" && echo "$PG_BINDIR"' "$root")
new_bin=$PG_BINDIR
for bin in "$old_bin" "$new_bin"; do
    [ -f "$("$bin/pg_config" --sharedir)/extension/flashsale.control" ] ||
        die "the extension is not built for $("$bin/postgres" --version): run make build PG_MAJOR=…"
done

run_as=
if [ "$(id -u)" = 0 ]; then run_as="runuser -u postgres --"; fi
folder=$(mktemp -d /var/tmp/flashsale.XXXXXX)
trap clean_up EXIT
trap 'trap "" INT TERM HUP; exit 130' INT TERM HUP # a second one must not end the cleaning up
for name in $(compgen -e PG | grep -vE '^(PG_|PGRX)'); do unset "$name"; done
export PGHOST=$folder PGUSER=postgres PGDATABASE=shop
touch "$folder/log"
if [ -n "$run_as" ]; then chown -R postgres: "$folder"; fi

as_server() { (cd "$folder" && $run_as env -u RUST_BACKTRACE "$@"); }
bin() { if [ "$1" = old ]; then echo "$old_bin"; else echo "$new_bin"; fi; }
# server NAME OPTION...: pg_ctl for one of the clusters, of which `old` has the earlier version.
server() { as_server "$(bin "$1")/pg_ctl" -D "$folder/$1" -l "$folder/log" "${@:2}"; }
clean_up() {
    [ $? = 0 ] || tail -n 50 "$folder/log"
    local cluster
    jobs -p | xargs -r kill 2>/dev/null || true
    for cluster in "$folder"/*/; do
        server "$(basename "$cluster")" -m immediate stop >/dev/null 2>&1 || true # it may be down
    done
    rm -rf "$folder"
}
# make_cluster NAME SETTING...
make_cluster() {
    local checksums=()
    if [ "$1" != old ] && [ "$PG_MAJOR" -ge 18 ]; then checksums=(--no-data-checksums); fi
    as_server "$(bin "$1")/initdb" -D "$folder/$1" -A trust -U postgres -E UTF8 --no-locale --no-sync \
        "${checksums[@]}" >/dev/null
    printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$folder'" "port = $(port "$1")" "${@:2}" \
        >>"$folder/$1/postgresql.conf"
}
port() { case $1 in old | sale) echo 5432 ;; new) echo 5433 ;; main) echo 5434 ;; esac; }
# shellcheck disable=SC2034 # for scripts that source this one
preloaded=("shared_preload_libraries = flashsale" "flashsale.database = shop")
ask() { "$old_bin/psql" -XqAt -v ON_ERROR_STOP=1 "$@"; }
# The same for a check, which then fails.
got() { ask "$@" || echo "psql failed"; }
# The same on a cluster: on NAME OPTION...
on() { ask -p "$(port "$1")" "${@:2}"; }
got_on() { got -p "$(port "$1")" "${@:2}"; }
# The SQLSTATE of a statement.
sqlstate() { ask -v VERBOSITY=sqlstate "$@" 2>&1 | sed 's/^ERROR: *//'; }

# Item 7, with orders in all states, some of which are named by their buyers in the view `of`.
sell_in_all_states() {
    ask <<'SQL' >"$folder/sold"
SELECT flashsale.create_item(1000, 'a "cup"', 250, 'EUR', item_id => 7);
SELECT flashsale.restock_item(7, 5, 'found some', 'a key');
SELECT flashsale.purchase_item(7, user_id, 1, 'click') FROM unnest('{
    reserved,stale,paying,confirmed,cancelled,expired,refunded,due}'::text[]) AS user_id;
CREATE VIEW of AS SELECT user_id, order_id AS id FROM flashsale.orders;
SELECT flashsale.begin_payment(id) FROM of WHERE user_id IN ('paying', 'confirmed');
SELECT flashsale.confirm_order(id, user_id || ' charge', 250, 'EUR') FROM of WHERE user_id IN ('confirmed', 'refunded', 'due');
SELECT flashsale.cancel_order(id) FROM of WHERE user_id = 'cancelled';
SELECT flashsale.refund_order(id, restock => user_id = 'due') FROM of WHERE user_id IN ('refunded', 'due');
SELECT flashsale.refund_payment('refunded charge', 'gateway refund');
SELECT flashsale.confirm_order('7-0123456789', 'lost charge', 250, 'EUR');
UPDATE flashsale.orders SET expires_at = clock_timestamp() WHERE user_id = 'expired';
SELECT flashsale.reconcile_stale_reservations();
UPDATE flashsale.orders SET expires_at = clock_timestamp() WHERE user_id = 'stale';
CREATE TABLE parcels (order_id bigint PRIMARY KEY REFERENCES flashsale.orders, item_id bigint REFERENCES flashsale.items);
INSERT INTO parcels SELECT id, 7 FROM of WHERE user_id = 'confirmed';
SQL
    is "orders in all states" 6 "$(got -c 'SELECT count(DISTINCT status) FROM flashsale.orders')"
    is "the audit before" "" "$(got -c 'SELECT * FROM flashsale.audit()')"
}

# ---- a sale with buyers who go on -----------------------------------------------------------------

# start_sale UNITS: item 8 on the old server, and its buyers. It becomes node 1 of 2, so from then on its ids are odd.
start_sale() {
    ask -c "SELECT flashsale.create_item($1, 'Console', 500, 'EUR', item_id => 8)" >/dev/null
    start_buyers old 0.01
    all_buy old
    ask -c "SELECT flashsale.set_node(1, 2)" >/dev/null
    all_buy old
}
buyers=(grouped atomic grouped nowait) # the strategy of each
# What a buyer does from its n-th click on: it buys a unit with a key, and then pays, cancels, begins to pay, or leaves.
# It notes what was answered, and stops when all is sold: clicks BUYER N PAUSE
clicks() {
    local n
    for ((n = $2; ; n++)); do
        printf '%s\n' "SELECT coalesce(a ->> 'order_ref', '') AS ref, a ->> 'success' AS is_sold,
                              coalesce(a ->> 'reason' = 'out_of_stock', false) AS is_over
                       FROM flashsale.purchase_item(8, 'buyer $1', 1, 'click $n', strategy => '${buyers[$1]}') AS a \gset" \
            '\if :is_sold' "\echo $1 $n sold :ref"
        case $((n % 4)) in
        0) answered "$1 $n paid" "confirm_order(:'ref', 'charge $1-$n', 500, 'EUR')" ;;
        1) answered "$1 $n cancelled" "cancel_order(:'ref')" ;;
        2) answered "$1 $n paying" "begin_payment(:'ref')" ;;
        esac
        printf '%s\n' '\elif :is_over' '\q' '\endif' "SELECT pg_sleep($3) \g /dev/null"
    done 2>/dev/null # when psql has ended
}
answered() { echo "SELECT '$1', :'ref' FROM flashsale.$2 AS a WHERE (a ->> 'success')::boolean;"; }
# All buyers, each from its last click on, which it repeats: start_buyers SERVER PAUSE
start_buyers() {
    local buyer last
    for buyer in "${!buyers[@]}"; do
        touch "$folder/answers.$buyer"
        last=$(awk 'END { print $2 + 0 }' "$folder/answers.$buyer")
        (clicks "$buyer" "$last" "$2" | on "$1" -U shop_app -F ' ' >>"$folder/answers.$buyer" 2>>"$folder/errors" || true) &
    done
}
# Waits until each buyer has bought ten more units: all_buy SERVER
all_buy() {
    local last
    last=$(on "$1" -c 'SELECT coalesce(max(order_id), 0) FROM flashsale.orders')
    await_true on "$1" -c "
        SELECT count(*) = ${#buyers[@]} FROM (
            SELECT FROM flashsale.orders WHERE item_id = 8 AND order_id > $last GROUP BY user_id HAVING count(*) >= 10) AS b"
}
# leave_units UNITS: so many are left on the old server.
leave_units() {
    ask -c "SELECT flashsale.restock_item(8, $1 - inventory, 'written off') FROM flashsale.items WHERE item_id = 8" >/dev/null
}
# on_answers SERVER SQL: with the table `answers` of what was answered.
on_answers() {
    cat "$folder"/answers.* >"$folder/answers"
    got_on "$1" -c 'CREATE TEMP TABLE answers (buyer int, click int, what text, ref text)' \
        -c "\copy answers FROM '$folder/answers' (DELIMITER ' ')" -c "$2"
}
# Lets the buyers buy all that is left, and compares their answers with the orders: sell_out SERVER
sell_out() {
    local rest
    start_buyers "$1" 0
    wait
    rest=$(on "$1" -c 'SELECT inventory FROM flashsale.items WHERE item_id = 8')
    if [ "$rest" != 0 ]; then # that others have cancelled
        echo "9 1 sold $(on "$1" -U shop_app -c "SELECT flashsale.purchase_item(8, 'last', $rest) ->> 'order_ref'")" >"$folder/answers.9"
    fi
    is "the units that are left" "0|$(got_on "$1" -c 'SELECT stock FROM flashsale.items WHERE item_id = 8')" \
        "$(got_on "$1" -c 'SELECT inventory, (SELECT sum(units_held) FROM flashsale.orders WHERE item_id = 8) FROM flashsale.items WHERE item_id = 8')"
    is "one more" "out_of_stock" "$(got_on "$1" -U shop_app -c "SELECT flashsale.purchase_item(8, 'late') ->> 'reason'")"
    is "each answer has its order, and each order an answer" "0" "$(on_answers "$1" "
        SELECT count(*) FROM (SELECT DISTINCT ref FROM answers) AS a
        FULL JOIN (SELECT order_id || '-' || ref_code AS ref FROM flashsale.orders WHERE item_id = 8) AS o USING (ref)
        WHERE a IS NULL OR o IS NULL")"
    is "what was answered last is so" "0" "$(on_answers "$1" "
        SELECT count(*) FROM answers a JOIN flashsale.orders o ON a.ref = o.order_id || '-' || o.ref_code
        WHERE a.what <> 'sold' AND o.status <> CASE a.what WHEN 'paid' THEN 'confirmed' ELSE a.what END")"
    is "errors but lost connections" "" "$(grep -iE 'error|fatal|panic' "$folder/errors" |
        grep -vE 'terminating connection|connection to server was lost' || true)"
}
