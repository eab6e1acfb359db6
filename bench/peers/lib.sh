# lib.sh - what the build scripts of the peers share.  Sourced by bench/peers/build.sh, which sets
# HERE (this folder) and TO (build/peers/NAME).  Shell: bash.
# shellcheck shell=bash

say() { printf 'peers: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# tool NAME HOW: a build tool that is not installed for the user, because Debian's is too old.
tool() { command -v "$1" >/dev/null || die "${TO##*/} needs $1: $2"; }

# debian PACKAGE...: from Debian, unless it is there.
INSTALLED=() # by this script, just now
debian() {
    local package missing=()
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    local root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    say "installing ${missing[*]}"
    "${root[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}" >"$TO/apt.log" 2>&1 ||
        die "apt-get could not install ${missing[*]}; log: $TO/apt.log (apt-get update may be due)"
    INSTALLED+=("${missing[@]}")
}

# no_service PACKAGE: nobody asked for the service that it starts when it is installed.  One that was
# there before is left alone.
no_service() {
    [[ " ${INSTALLED[*]} " == *" $1 "* && -d /run/systemd/system ]] || return 0
    systemctl disable --now "$1" >/dev/null 2>&1 || say "$1 has started a service of its own"
}

# filled FILE: a template, each @NAME@ replaced by the variable of this name.
filled() {
    local text name
    text=$(<"$1")
    while [[ $text =~ @([A-Z_]+)@ ]]; do
        name=${BASH_REMATCH[1]}
        [ -n "${!name:-}" ] || die "$1: nothing is known of @$name@"
        text=${text//"@$name@"/"${!name}"}
    done
    printf '%s\n' "$text"
}

# go_program PACKAGE TAGS MODULE@VERSION...: build PACKAGE of a module that requires these; "." is
# the program in the peer's own folder.
go_program() {
    local package=$1 tags=$2 required=()
    shift 2
    tool go "Go 1.25 or newer"
    required=("${@/#/-require=}")
    rm -rf "$TO/work"
    mkdir -p "$TO/work"
    cd "$TO/work" || exit
    [ "$package" != . ] || cp "$HERE/${TO##*/}"/*.go .
    {
        go mod init peer &&
            go mod edit "${required[@]}" &&
            go build -mod=mod -tags "$tags" -trimpath -o "$TO/program.new" "$package" &&
            go version -m "$TO/program.new"
    } >"$TO/build.log" 2>&1 || { tail -n 20 "$TO/build.log" >&2; die "the build failed; log: $TO/build.log"; }
    mv "$TO/program.new" "$TO/program"
}
