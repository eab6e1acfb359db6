#!/usr/bin/env bash
# kafka.sh - a real Apache Kafka (KRaft, one node) on this machine, for tests and the demo.
#
#     kafka.sh install      fetch the jars (Maven Central), once per user
#     kafka.sh jars         the same, and where they are
#     kafka.sh start        a new, empty Kafka on free ports; prints its addresses as NAME=value
#     kafka.sh stop         end it, keep its data: the next start goes on where it was
#     kafka.sh kill         the same by SIGKILL
#     kafka.sh pause|resume SIGSTOP and SIGCONT: the sockets stay, nobody answers
#     kafka.sh status       the addresses again; exit 3 if it is not running
#     kafka.sh remove       stop it and delete its data
#     kafka.sh certificates DIR  a CA, and certificates made by it: server.pem for localhost,
#                           client.crt and client.key of CN=press
#
# Environment:
#     KAFKA_DATA        where it lives (default: build/services/kafka); one Kafka a folder
#     KAFKA_TLS=1       one more listener with TLS; its CA is $KAFKA_DATA/certs/ca.crt
#     KAFKA_SECURE=1    as at a real site: KAFKA_TLS, and besides
#                         a SASL_SSL listener: PLAIN (users plain, looker, nobody) and SCRAM (users
#                         scram256, scram512), all with the password "secret-of-NAME"; OAUTHBEARER with
#                         tokens signed by $KAFKA_DATA/certs/token.key (issuer, audience: "millrace test")
#                         an SSL listener that asks clients for a certificate
#                         an authorizer: nobody may do anything, but the plaintext listener all
#                         topics do not come into being by use
#     KAFKA_OWNER=PID   remove it when this process is gone, however that ended
#     KAFKA_PORTS       "PORT ...": to take these, one after the other, before any other
#     KAFKA_PARTITIONS  of topics that come into being by use (default 4)
#     KAFKA_CACHE       where the jars live (default: ~/.cache/millrace)
#
# The ports are chosen at the first start and kept, so clients find it again after a stop.
set -euo pipefail

readonly KAFKA_VERSION=4.1.0
readonly SLF4J_VERSION=1.7.36 # what Kafka's own slf4j-api asks for
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
DATA=${KAFKA_DATA:-$HERE/../../build/services/kafka}
CACHE=${KAFKA_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/millrace}
readonly HERE DATA CACHE
readonly JARS=$CACHE/kafka-$KAFKA_VERSION
readonly PID_FILE=$DATA/pid WATCHER_FILE=$DATA/watcher LOG=$DATA/kafka.log PORTS=$DATA/ports

# Small, and quick to start: one node that lives for minutes needs neither a
# large heap nor the second compiler.
readonly JVM=(-Xms256m -Xmx768m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto
              -Djava.net.preferIPv4Stack=true
              -Dorg.slf4j.simpleLogger.defaultLogLevel=warn
              -Dorg.slf4j.simpleLogger.showDateTime=true)

say() { printf 'kafka.sh: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

pid_of() { cat "$PID_FILE" 2>/dev/null; }

# A zombie is not alive: it only waits for its parent.
alive() {
    local pid state
    pid=$(pid_of) && [ -n "$pid" ] || return 1
    state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null) || return 1
    [ -n "$state" ] && [ "$state" != Z ]
}

install_jars() {
    [ -d "$JARS" ] && return
    command -v mvn >/dev/null || die "mvn is missing; install the package 'maven', or run ./dev services kafka start"
    say "fetching Apache Kafka $KAFKA_VERSION (about 60 MB, once)"
    mkdir -p "$CACHE"
    exec 9>"$CACHE/kafka.lock"
    flock 9
    [ -d "$JARS" ] && return
    local work
    work=$(mktemp -d "$CACHE/fetch.XXXXXX")
    pom >"$work/pom.xml"
    (cd "$work" && mvn -q -B dependency:copy-dependencies -DoutputDirectory=jars >mvn.log 2>&1) || {
        tail -n 20 "$work/mvn.log" >&2
        die "Maven could not fetch Kafka $KAFKA_VERSION; is Maven Central to be reached? Log: $work/mvn.log"
    }
    mv "$work/jars" "$JARS"
    rm -rf "$work"
    exec 9>&-
}

pom() {
    cat <<XML
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>millrace.test</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>$SLF4J_VERSION</version></dependency>
  </dependencies>
</project>
XML
}

# Ports below the range the kernel gives to outgoing connections, so that a
# stopped Kafka's ports are not handed to somebody else before it comes back.
free_port() {
    local port try
    for try in $(seq 200); do
        port=$((15000 + (RANDOM * 32768 + RANDOM + try) % 5000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    die "no free port between 15000 and 20000"
}

choose_ports() {
    [ -f "$PORTS" ] && return
    local names=(PLAIN CONTROLLER) given name
    [ -z "${KAFKA_TLS:-}${KAFKA_SECURE:-}" ] || names+=(TLS)
    [ -z "${KAFKA_SECURE:-}" ] || names+=(SASL MUTUAL)
    read -ra given <<<"${KAFKA_PORTS:-}"
    for name in "${names[@]}"; do
        echo "${name}_PORT=${given[0]:-$(free_port)}"
        given=("${given[@]:1}")
    done >"$PORTS"
}

load_ports() {
    TLS_PORT='' SASL_PORT='' MUTUAL_PORT=''
    # shellcheck source=/dev/null
    . "$PORTS"
}

# The public half of token.key, as an identity provider publishes it (RFC 7517).
token_keys() {
    local hex
    hex=$(openssl rsa -in token.key -noout -modulus | cut -d= -f2)
    hex=$(fold -w 2 <<<"$hex" | sed 's/^/\\x/' | tr -d '\n')
    printf '{"keys":[{"kty":"RSA","kid":"test","use":"sig","alg":"RS256","e":"AQAB","n":"%s"}]}\n' \
        "$(printf '%b' "$hex" | base64 -w 0 | tr '+/' '-_' | tr -d '=')"
}

# certificates DIR: ca.crt, ca.key, and server.pem (key and certificate) for
# localhost and 127.0.0.1; other.crt is a CA that signed nothing here.
certificates() {
    local dir=$1
    [ -f "$dir/server.pem" ] && return
    mkdir -p "$dir"
    (
        cd "$dir"
        openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=millrace test CA" \
            -keyout ca.key -out ca.crt
        openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=some other CA" \
            -keyout other.key -out other.crt
        openssl req -newkey rsa:2048 -nodes -subj "/CN=localhost" -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' >server.ext
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 \
            -extfile server.ext -out server.crt
        openssl req -newkey rsa:2048 -nodes -subj "/CN=press" -keyout client.key -out client.csr
        openssl x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 \
            -out client.crt
        openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out token.key
        token_keys >token.jwks
        cat server.key server.crt >server.pem.tmp
        mv server.pem.tmp server.pem
    ) >"$dir/openssl.log" 2>&1 || die "openssl could not make certificates; log: $dir/openssl.log"
}

properties() {
    local listeners=PLAINTEXT://127.0.0.1:$PLAIN_PORT
    [ -z "$TLS_PORT" ] || listeners+=,SSL://127.0.0.1:$TLS_PORT
    [ -z "$SASL_PORT" ] || listeners+=,SASL_SSL://127.0.0.1:$SASL_PORT,MUTUAL://127.0.0.1:$MUTUAL_PORT
    cat <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$CONTROLLER_PORT
listeners=$listeners,CONTROLLER://127.0.0.1:$CONTROLLER_PORT
advertised.listeners=$listeners
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,MUTUAL:SSL
log.dirs=$DATA/log
num.partitions=${KAFKA_PARTITIONS:-4}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=2
CONF
    [ -z "$TLS_PORT" ] || cat <<CONF
ssl.keystore.type=PEM
ssl.keystore.location=$DATA/certs/server.pem
CONF
    [ -z "$SASL_PORT" ] || secure_properties
}

readonly MODULES=org.apache.kafka.common.security
readonly SCRAM_USERS=(SCRAM-SHA-256:scram256 SCRAM-SHA-512:scram512)
readonly PLAIN_USERS=(plain looker nobody)

secure_properties() {
    local listener=listener.name.sasl_ssl plain user
    plain=$(for user in "${PLAIN_USERS[@]}"; do printf ' user_%s="secret-of-%s"' "$user" "$user"; done)
    cat <<CONF
auto.create.topics.enable=false
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
listener.name.mutual.ssl.client.auth=required
listener.name.mutual.ssl.truststore.type=PEM
listener.name.mutual.ssl.truststore.location=$DATA/certs/ca.crt
$listener.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
$listener.plain.sasl.jaas.config=$MODULES.plain.PlainLoginModule required$plain;
$listener.scram-sha-256.sasl.jaas.config=$MODULES.scram.ScramLoginModule required;
$listener.scram-sha-512.sasl.jaas.config=$MODULES.scram.ScramLoginModule required;
$listener.oauthbearer.sasl.jaas.config=$MODULES.oauthbearer.OAuthBearerLoginModule required;
$listener.oauthbearer.sasl.server.callback.handler.class=$MODULES.oauthbearer.OAuthBearerValidatorCallbackHandler
sasl.oauthbearer.jwt.validator.class=$MODULES.oauthbearer.BrokerJwtValidator
sasl.oauthbearer.jwks.endpoint.url=file://$DATA/certs/token.jwks
sasl.oauthbearer.expected.audience=millrace test
sasl.oauthbearer.expected.issuer=millrace test
CONF
}

# SCRAM users have to be there before the first start.
scram_users() {
    local user
    for user in "${SCRAM_USERS[@]}"; do
        printf '%s\n%s=[name=%s,password=secret-of-%s]\n' --add-scram "${user%:*}" "${user#*:}" "${user#*:}"
    done
}

# 16 random bytes in base64url: what Kafka calls a cluster id.
cluster_id() { printf 'A%s' "$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c 2-22)"; }

prepare() {
    mkdir -p "$DATA"
    choose_ports
    load_ports
    [ -z "$TLS_PORT" ] || certificates "$DATA/certs"
    properties >"$DATA/server.properties"
    [ -f "$DATA/log/meta.properties" ] && return
    local users=()
    [ -z "$SASL_PORT" ] || mapfile -t users < <(scram_users)
    java "${JVM[@]}" -cp "$JARS/*" kafka.tools.StorageTool format -t "$(cluster_id)" \
        -c "$DATA/server.properties" "${users[@]}" >>"$LOG" 2>&1 ||
        die "Kafka could not format its data folder; log: $LOG"
}

# Ready is when a client gets the metadata; a start that failed is said at once.
wait_ready() {
    local deadline=$((SECONDS + 90))
    until kcat -b "127.0.0.1:$PLAIN_PORT" -L -m 2 >/dev/null 2>&1; do
        alive || { tail -n 20 "$LOG" >&2; die "Kafka ended while starting; log: $LOG"; }
        [ $SECONDS -lt $deadline ] || die "Kafka was not ready in 90 s; log: $LOG"
        sleep 0.1
    done
}

start() {
    install_jars
    if ! alive; then
        prepare
        # A broker fetches keys only from where this property allows it.
        setsid java "${JVM[@]}" \
            "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://$DATA/certs/token.jwks" \
            -cp "$JARS/*" kafka.Kafka "$DATA/server.properties" >>"$LOG" 2>&1 </dev/null &
        echo $! >"$PID_FILE"
        [ -z "${KAFKA_OWNER:-}" ] || watch_owner "$KAFKA_OWNER"
        wait_ready
    fi
    show
}

# The owner may be killed at any moment; then nobody else would end Kafka.
watch_owner() {
    kill -0 "$(cat "$WATCHER_FILE" 2>/dev/null)" 2>/dev/null && return
    # shellcheck disable=SC2016 # the watcher expands it
    KAFKA_DATA=$DATA setsid bash -c 'tail --pid="$1" -f /dev/null; exec "$0" remove' \
        "$HERE/kafka.sh" "$1" </dev/null >/dev/null 2>&1 &
    echo $! >"$WATCHER_FILE"
}

remove() {
    local watcher
    stop KILL
    # A watcher that fired is this very process.
    watcher=$(cat "$WATCHER_FILE" 2>/dev/null) && [ "$watcher" != $$ ] && kill -- "-$watcher" 2>/dev/null
    rm -rf "$DATA"
}

show() {
    load_ports
    echo "PID=$(pid_of)"
    echo "BOOTSTRAP=127.0.0.1:$PLAIN_PORT"
    [ -z "$SASL_PORT" ] || printf 'SASL_BOOTSTRAP=localhost:%s\nMUTUAL_BOOTSTRAP=localhost:%s\n' \
        "$SASL_PORT" "$MUTUAL_PORT"
    [ -z "$TLS_PORT" ] || printf 'TLS_BOOTSTRAP=localhost:%s\nCA_FILE=%s\n' "$TLS_PORT" "$DATA/certs/ca.crt"
}

# gone SECONDS: wait for the process to end; false if it has not by then.
gone() {
    local deadline=$((SECONDS + $1))
    while alive; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.05
    done
}

# stop SIGNAL: returns when the process is gone.
stop() {
    alive || { rm -f "$PID_FILE"; return 0; }
    kill -CONT "$(pid_of)"
    kill "-$1" "$(pid_of)"
    gone 20 || {
        say "Kafka did not end within 20 s; killing it"
        kill -KILL "$(pid_of)"
        gone 20
    }
    rm -f "$PID_FILE"
}

signal() { alive || die "Kafka is not running"; kill "-$1" "$(pid_of)"; }

case "${1:-}" in
install) install_jars ;;
jars) install_jars; echo "$JARS" ;;
start) start ;;
stop) stop TERM ;;
kill) stop KILL ;;
pause) signal STOP ;;
resume) signal CONT ;;
status) if alive; then show; else say "not running"; exit 3; fi ;;
remove) remove ;;
certificates) certificates "${2:?a folder}" ;;
*) sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | sed '/^set/d' >&2; exit 64 ;;
esac
