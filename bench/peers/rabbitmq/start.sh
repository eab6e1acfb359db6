# A node of its own: its files are in FOLDER, its name and ports are its own.
# shellcheck shell=bash
export QUEUES=${QUEUES:-classic}
filled "$HERE/rabbitmq/rabbitmq.conf.in" >"$FOLDER/rabbitmq.conf"
echo '[rabbitmq_mqtt].' >"$FOLDER/enabled_plugins"
export RABBITMQ_NODENAME=peer$PORT@localhost RABBITMQ_CONFIG_FILE=$FOLDER/rabbitmq.conf \
    RABBITMQ_ENABLED_PLUGINS_FILE=$FOLDER/enabled_plugins RABBITMQ_MNESIA_BASE=$FOLDER \
    RABBITMQ_LOG_BASE=$FOLDER RABBITMQ_DIST_PORT=$OTHER_PORT HOME=$FOLDER \
    RABBITMQ_PID_FILE=$FOLDER/pid ERL_EPMD_ADDRESS=127.0.0.1 \
    ERL_EPMD_PORT=$THIRD_PORT
# The node would start one that outlives it.
epmd &
exec /usr/lib/rabbitmq/bin/rabbitmq-server
