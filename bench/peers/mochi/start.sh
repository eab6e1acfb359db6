# shellcheck shell=bash
exec "$TO/program" "$PORT" "$SERVERS" "$TOPIC"
