# shellcheck shell=bash
# Sourced by the other scripts: where everything lies, and which PostgreSQL is meant.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
umask 022 # the postgres user must be able to read what root installs

say() { echo "flashsale: $*" >&2; }
die() { say "$*"; exit 1; }

# The newest supported PostgreSQL that is here with its server and its headers.
installed_major() {
    local n
    for n in 18 17 16 15; do
        if [ -x "/usr/lib/postgresql/$n/bin/postgres" ] &&
            [ -f "/usr/include/postgresql/$n/server/postgres.h" ]; then
            echo "$n"
            return
        fi
    done
}

# Work folder of this user and clone. Under /var/tmp, since a clone may lie where the
# postgres user cannot go, and a path that stays keeps cargo from building anew.
: "${FLASHSALE_HOME:=/var/tmp/flashsale-$(id -u)-$(printf %s "$root" | cksum | cut -d ' ' -f 1)}"
: "${PG_MAJOR:=$(installed_major)}"
export FLASHSALE_HOME PG_MAJOR

# Two copies of PostgreSQL: `pg` gets the release build, `pg-test` what `cargo pgrx test`
# installs, so that neither overwrites the library of the other's running servers.
PG_TREE=$FLASHSALE_HOME/pg
PG_BINDIR=$PG_TREE/lib/postgresql/$PG_MAJOR/bin
PG_TESTDIR=$PG_TREE/lib/postgresql/$PG_MAJOR/lib/pgxs/src/test
export PG_BINDIR PG_TESTDIR
export PGRX_HOME=$FLASHSALE_HOME/pgrx

pgrx_version=$(sed -n 's/^pgrx = "=\(.*\)"$/\1/p' "$root/Cargo.toml")
pgrx_root=${XDG_CACHE_HOME:-$HOME/.cache}/flashsale/cargo-pgrx-$pgrx_version
if [ -x "$pgrx_root/bin/cargo-pgrx" ]; then
    export PATH="$pgrx_root/bin:$PATH"
fi
