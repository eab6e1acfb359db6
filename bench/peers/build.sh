#!/usr/bin/env bash
# build.sh - install or build peers into build/peers, through the package registries' own clients.
#
#     bench/peers/build.sh NAME...    those; without a name, all
#
# What is there in the pinned version (bench/peers/versions) is left alone.  A peer that cannot be
# built is named and the others go on; the exit code is then 1.
set -uo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
readonly HERE ROOT
# shellcheck source=bench/peers/lib.sh
. "$HERE/lib.sh"
set -a # the templates' and scripts' @NAME@
# shellcheck source=bench/peers/versions
. "$HERE/versions"
set +a

# In a shell of its own that ends at the first failure; so not as part of a condition.
one() (
    set -e
    TO=$ROOT/build/peers/$1
    made_of=$(cat "$HERE/versions" "$HERE/$1"/* | sha256sum)
    [ "$(cat "$TO/made-of" 2>/dev/null)" != "$made_of" ] || exit 0
    say "building $1 (log: $TO/build.log)"
    mkdir -p "$TO"
    # shellcheck disable=SC1090 # one of the folders beside this file
    . "$HERE/$1/build.sh"
    printf '%s\n' "$made_of" >"$TO/made-of"
)

names=("$@")
if [ $# -eq 0 ]; then
    names=("$HERE"/*/build.sh)
    names=("${names[@]%/build.sh}")
    names=("${names[@]##*/}")
fi
code=0
for name in "${names[@]}"; do
    [ -f "$HERE/$name/build.sh" ] || die "there is no peer '$name'"
    one "$name" &
    wait $! || { say "$name cannot be measured"; code=1; }
done
exit "$code"
