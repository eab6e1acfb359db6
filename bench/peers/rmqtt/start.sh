# shellcheck shell=bash
filled "$HERE/rmqtt/plugin.toml.in" >"$FOLDER/rmqtt-bridge-egress-kafka.toml"
exec "$TO/program" "$PORT" "$FOLDER"
