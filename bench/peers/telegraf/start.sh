# shellcheck shell=bash
filled "$HERE/telegraf/telegraf.conf.in" >"$FOLDER/telegraf.conf"
exec "$TO/program" --config "$FOLDER/telegraf.conf"
