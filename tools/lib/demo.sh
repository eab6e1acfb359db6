# shellcheck shell=bash
# demo.sh - sourced by ./dev: a gateway, simulated sensors, and with --kafka a real Kafka.
#
# Everything lives in one folder below build/ and is started by us; the end, however it comes,
# stops each process by its pid and deletes the folder.  The children have sessions of their
# own, so that a Ctrl-C reaches this script alone and the order of the end is ours; should this
# script be killed, the kernel ends them (setpriv --pdeathsig).

DEMO_KAFKA='' DEMO_SECONDS=0 DEMO_SENSORS=1000 DEMO_RATE=5000
DEMO_DIR='' DEMO_BOOTSTRAP='' GATEWAY_PID='' SIMULATE_PID='' MQTT_PORT='' ADMIN_PORT=''
readonly DEMO_TOPIC=sensor_data

demo() {
    demo_options "$@"
    need build
    [ -z "$DEMO_KAFKA" ] || need kafka
    build_release
    mkdir -p build
    DEMO_DIR=$(mktemp -d "$PWD/build/demo.XXXXXX")
    trap demo_clean EXIT
    trap 'DEMO_ENDING=1' INT TERM
    [ -z "$DEMO_KAFKA" ] || demo_kafka
    demo_gateway
    demo_simulate
    demo_explain
    demo_watch
    demo_end
}

demo_options() {
    while [ $# -gt 0 ]; do
        case $1 in
        --kafka) DEMO_KAFKA=1 ;;
        --seconds | --sensors | --rate)
            [[ ${2:-} =~ ^[0-9]+$ ]] || usage_error "demo: $1 needs a number"
            local name=${1#--}
            declare -g "DEMO_${name^^}=$2"
            shift
            ;;
        *) usage_error "demo: what is '$1'?" ;;
        esac
        shift
    done
}

demo_kafka() {
    say "starting Apache Kafka"
    local said
    said=$(KAFKA_DATA=$DEMO_DIR/kafka KAFKA_OWNER=$$ test/services/kafka.sh start) ||
        die "Kafka did not start"
    DEMO_BOOTSTRAP=$(sed -n 's/^BOOTSTRAP=//p' <<<"$said")
}

demo_configuration() {
    cat <<YAML
gateway: { data: "$DEMO_DIR/data" }
listeners:
  mqtt: { bind: "127.0.0.1:0" }
admin: { bind: "127.0.0.1:0" }
journal: { max_size: 1GiB }
YAML
    [ -z "$DEMO_KAFKA" ] || cat <<YAML
bridges:
  kafka:
    servers: "$DEMO_BOOTSTRAP"
    topic: $DEMO_TOPIC
    message_key: "\${clientid}"
    value_encoder: json
YAML
}

# in_background NAME COMMAND...: its pid is in $!, what it says in NAME.out and NAME.log.
in_background() {
    local name=$DEMO_DIR/$1
    shift
    setsid setpriv --pdeathsig TERM "$@" >"$name.out" 2>"$name.log" </dev/null &
}

demo_gateway() {
    local log=$DEMO_DIR/gateway.log
    demo_configuration >"$DEMO_DIR/millrace.yaml"
    in_background gateway build/release/millrace run -c "$DEMO_DIR/millrace.yaml"
    GATEWAY_PID=$!
    until grep -q 'component=gateway msg="ready"' "$log" 2>/dev/null; do
        kill -0 $GATEWAY_PID 2>/dev/null || { cat "$log" >&2; die "the gateway ended while starting"; }
        sleep 0.05
    done
    MQTT_PORT=$(sed -n 's/.*component=listener .*listening on [^ ]*:\([0-9]*\) (mqtt).*/\1/p' "$log")
    ADMIN_PORT=$(sed -n 's/.*component=admin .*listening on http:[^ ]*:\([0-9]*\)".*/\1/p' "$log")
}

demo_simulate() {
    in_background simulate build/release/millrace simulate --port "$MQTT_PORT" \
        --sensors "$DEMO_SENSORS" --rate "$DEMO_RATE" --status --json
    SIMULATE_PID=$!
}

demo_explain() {
    cat <<TEXT

  $DEMO_SENSORS sensors publish $DEMO_RATE events a second over MQTT to 127.0.0.1:$MQTT_PORT; each is
  acknowledged when it is on this disk${DEMO_KAFKA:+, and goes on into Kafka at $DEMO_BOOTSTRAP}.
  Look closer from another terminal:

    build/release/millrace tap '#' --data $DEMO_DIR/data
    build/release/millrace journal ls --data $DEMO_DIR/data
    mosquitto_sub -p $MQTT_PORT -t '#' -v
    http://127.0.0.1:$ADMIN_PORT/metrics      (also /healthz and /readyz)
TEXT
    [ -z "$DEMO_KAFKA" ] || echo "    kcat -C -b $DEMO_BOOTSTRAP -t $DEMO_TOPIC"
    printf '\n  Ctrl-C ends everything and leaves nothing behind.\n\n'
}

# The page of an HTTP server on this machine, without any tool.
http_get() {
    local line
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return
    printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&3
    while read -r line <&3 && [ "$line" != $'\r' ]; do :; done
    cat <&3
    exec 3>&-
}

# metric PAGE NAME: the sum over all its labels, as a whole number.
metric() {
    awk -v name="$2" '{ split($1, word, "{") } word[1] == name { sum += $NF } END { printf "%d", sum }' <<<"$1"
}

demo_watch() {
    local began=$SECONDS line
    while [ -z "${DEMO_ENDING:-}" ]; do
        sleep 1 || true
        [ "$DEMO_SECONDS" = 0 ] || [ $((SECONDS - began)) -lt "$DEMO_SECONDS" ] || DEMO_ENDING=1
        demo_alive || return 1
        line=$(tail -n 1 "$DEMO_DIR/simulate.log")
        [ -z "$DEMO_KAFKA" ] || line+=$(demo_kafka_status)
        demo_status "$line" $((SECONDS - began))
    done
}

demo_kafka_status() {
    local page
    page=$(http_get "$ADMIN_PORT" /metrics) || return 0
    printf '  in Kafka %d, to go %d' "$(metric "$page" millrace_sink_records_sent_total)" \
        "$(metric "$page" millrace_sink_lag_records)"
}

# On a terminal one line that changes; else, and above the Kafka records, a line now and then.
demo_status() {
    local now=$2
    if [ -n "$DEMO_KAFKA" ] && [ $((now % 5)) = 0 ]; then
        printf '\r%s\n' "$1"
        demo_records
    elif [ -t 1 ]; then
        printf '\r%s\033[K' "$1"
    elif [ $((now % 5)) = 1 ]; then
        printf '%s\n' "$1"
    fi
}

# A few of the newest records, as Kafka gives them back.
demo_records() {
    timeout 5 kcat -C -q -c 4 -b "$DEMO_BOOTSTRAP" -t "$DEMO_TOPIC" -o -1 \
        -f '    key=%k partition=%p timestamp=%T %s\n' 2>/dev/null | cut -c 1-160 || true
}

demo_alive() {
    kill -0 "$GATEWAY_PID" 2>/dev/null || { tail -n 5 "$DEMO_DIR/gateway.log" >&2; say "the gateway ended"; return 1; }
    kill -0 "$SIMULATE_PID" 2>/dev/null || { tail -n 5 "$DEMO_DIR/simulate.log" >&2; say "the sensors ended"; return 1; }
}

# end_process PID: SIGTERM, ten seconds of patience, SIGKILL.
end_process() {
    local pid=$1 try
    [ -n "$pid" ] && kill -TERM "$pid" 2>/dev/null || return 0
    for try in $(seq 200); do
        kill -0 "$pid" 2>/dev/null || return 0
        [ "$try" -lt 200 ] || kill -KILL "$pid" 2>/dev/null
        sleep 0.05
    done
}

# Records in the topic: the sum of its partitions' ends.
kafka_count() {
    local partitions
    mapfile -t partitions < <(kcat -L -b "$DEMO_BOOTSTRAP" -t "$DEMO_TOPIC" 2>/dev/null |
        sed -n "s/^ *partition \([0-9]*\),.*/-t $DEMO_TOPIC:\1:-1/p")
    # shellcheck disable=SC2068 # "-t topic:n:-1" is two words
    kcat -Q -b "$DEMO_BOOTSTRAP" ${partitions[@]} 2>/dev/null |
        sed -n 's/.*offset //p' | awk '{ sum += $1 } END { print sum + 0 }'
}

# Sensors first, then what is on its way, then the gateway; and the sum at the end.
demo_end() {
    local acknowledged
    printf '\n'
    say "ending"
    end_process "$SIMULATE_PID"
    SIMULATE_PID=''
    acknowledged=$(sed -n 's/.*"acked": \([0-9]*\).*/\1/p' "$DEMO_DIR/simulate.out")
    [ -z "$DEMO_KAFKA" ] || demo_drain
    end_process "$GATEWAY_PID"
    GATEWAY_PID=''
    if [ -z "$DEMO_KAFKA" ]; then
        say "$acknowledged events were acknowledged, each after it was durable in the journal"
    else
        demo_compare "$acknowledged" "$(kafka_count)"
    fi
}

# Wait, ten seconds at most, until the bridge has settled all there is.
demo_drain() {
    local try page
    for try in $(seq 100); do
        page=$(http_get "$ADMIN_PORT" /metrics) || return 0
        [ "$(metric "$page" millrace_sink_lag_records)" != 0 ] || return 0
        [ "$try" = 100 ] || sleep 0.1
    done
}

demo_compare() {
    if [ "$1" = "$2" ]; then
        say "$1 events acknowledged, $2 records in Kafka: nothing is missing, nothing twice"
    elif [ "$1" -lt "$2" ]; then
        say "$1 events acknowledged, $2 records in Kafka: at least once, $(($2 - $1)) came twice"
    else
        die "$1 events acknowledged, but only $2 records in Kafka"
    fi
}

demo_clean() {
    local code=$?
    trap - EXIT
    trap '' INT TERM # the end is not to be interrupted
    end_process "$SIMULATE_PID"
    end_process "$GATEWAY_PID"
    [ ! -d "$DEMO_DIR/kafka" ] || KAFKA_DATA=$DEMO_DIR/kafka test/services/kafka.sh remove
    [ ! -d "$DEMO_DIR" ] || rm -rf "$DEMO_DIR"
    exit $code
}
