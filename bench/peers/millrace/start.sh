# shellcheck shell=bash
config=bridge.yaml.in
[ -n "$TOPIC" ] || config=journal.yaml.in
filled "$HERE/millrace/$config" >"$FOLDER/millrace.yaml"
exec "$MILLRACE" run -c "$FOLDER/millrace.yaml"
