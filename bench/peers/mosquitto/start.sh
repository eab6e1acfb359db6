# shellcheck shell=bash
filled "$HERE/mosquitto/mosquitto.conf.in" >"$FOLDER/mosquitto.conf"
exec mosquitto -c "$FOLDER/mosquitto.conf"
