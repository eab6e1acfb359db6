# shellcheck shell=bash
filled "$HERE/benthos/benthos.yaml.in" >"$FOLDER/benthos.yaml"
exec "$TO/program" run "$FOLDER/benthos.yaml"
