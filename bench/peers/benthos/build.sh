# The stream processor's module, with an input and an output of ours.
# shellcheck shell=bash
go_program . "" "github.com/redpanda-data/benthos/v4@$BENTHOS" "github.com/twmb/franz-go@$FRANZ_GO" \
    "github.com/eclipse/paho.mqtt.golang@$PAHO_GO"
