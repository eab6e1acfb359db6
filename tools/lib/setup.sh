# shellcheck shell=bash
# setup.sh - sourced by ./dev: speak, run a step with its output in a log, install packages.

readonly SETUP_LOG=build/setup.log

say() { printf './dev: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# step NAME COMMAND...: quiet while all is well; the output when it is not.
step() {
    local name=$1 log
    shift
    mkdir -p build
    log=build/step.$$.log
    if ! "$@" >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        die "$name failed at: $*"
    fi
    cat "$log" >>build/steps.log
    rm -f "$log"
}

packages_in() { cat "${@/#/tools/packages/}" | sed 's/#.*//; s/[[:space:]]*$//; /^$/d' | sort -u; }

# missing: of the package names on stdin, those that are not installed.
missing() {
    local package
    while read -r package; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            echo "$package"
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

can_install() { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >>"$SETUP_LOG" 2>&1 </dev/null
}

# The package lists are read afresh once a run, and only if something is missing.
apt_update_once() {
    [ -z "${APT_UPDATED:-}" ] || return 0
    APT_UPDATED=1
    apt update || say "apt-get update had trouble (see $SETUP_LOG); trying with the lists that are there"
}

# install_lists LIST...: true when every package of the lists is there.
install_lists() {
    local missing
    if ! command -v apt-get >/dev/null; then
        say "no apt-get here; make sure you have the equivalents of: $(packages_in "$@" | xargs)"
        return 0
    fi
    mapfile -t missing < <(packages_in "$@" | missing)
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! can_install; then
        say "missing: ${missing[*]}"
        say "you are not root and there is no sudo; as root: apt-get install ${missing[*]}"
        return 1
    fi
    mkdir -p build
    say "installing ${missing[*]} (log: $SETUP_LOG)"
    apt_update_once
    apt install "${missing[@]}" && return 0
    grep '^E: ' "$SETUP_LOG" | tail -n 3 >&2 || true
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | missing)
    say "could not install ${missing[*]}; the reason is above and in $SETUP_LOG. Is the network there, and 'main' in your apt sources?"
    return 1
}

need() { install_lists "$@" || exit 1; }

# need_or_skip WHAT LIST...: on a person's machine the tests do without; in CI it is a failure.
need_or_skip() {
    local what=$1
    shift
    install_lists "$@" && return
    [ "${CI:-}" != true ] || die "CI may not skip: $what"
    say "going on without $what"
}
