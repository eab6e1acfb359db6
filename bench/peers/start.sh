#!/usr/bin/env bash
# start.sh - become the process of one peer; bench/peers/run starts it in a session of its own.
#
#     PORT=... OTHER_PORT=... THIRD_PORT=... SERVERS=... TOPIC=... FOLDER=... bench/peers/start.sh NAME
#
# PORT is where the broker listens, the others are free ones, SERVERS and TOPIC are Kafka's, FOLDER is an
# empty one for files.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TO=$(cd "$HERE/../.." && pwd)/build/peers/${1:?the name of a peer}
readonly HERE TO
: "${PORT:?}" "${OTHER_PORT:?}" "${THIRD_PORT:?}" "${SERVERS:?}" "${TOPIC?}" "${FOLDER:?}"
# shellcheck source=bench/peers/lib.sh
. "$HERE/lib.sh"
# shellcheck disable=SC1090 # one of the folders beside this file
. "$HERE/$1/start.sh"
