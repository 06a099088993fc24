# shellcheck shell=bash
# Sourced after env.sh: a Debian in a folder, and commands that leave no mounts or processes behind.

work=$FLASHSALE_HOME/package
# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")

as_root=()
if [ "$(id -u)" != 0 ]; then as_root=(sudo); fi

# Runs a command as root with mounts and processes of its own, which end with this script.
isolated() {
    "${as_root[@]}" setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc "$@" &
    child=$!
    local status=0
    wait "$child" || status=$?
    child=
    return "$status"
}
trap '[ -z "${child:-}" ] || kill -KILL "$child"' EXIT
trap 'exit 130' INT TERM HUP

# Sets `debian` to the folder of a Debian of this release with a package of PostgreSQL's, from the
# mirror that is configured here: provide_debian PACKAGE
provide_debian() {
    debian=$work/$codename-$1
    local mirrors=() file
    [ ! -d "$debian" ] || return 0
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/{debian,ubuntu}.sources; do
        if [ -s "$file" ]; then mirrors+=("$file"); fi
    done
    say "installing a $codename with $1 into a folder, some minutes, once"
    "${as_root[@]}" rm -rf "$debian.new"
    isolated mmdebstrap --quiet --variant=apt --include="$1" "$codename" "$debian.new" "${mirrors[@]}" ||
        die "no $codename with $1 could be installed"
    "${as_root[@]}" mv "$debian.new" "$debian"
}
