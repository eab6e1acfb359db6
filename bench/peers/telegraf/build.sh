# The program of the module with no other plug-ins than the bridge uses (the makers' way to build a
# small one: tags).
# shellcheck shell=bash
go_program github.com/influxdata/telegraf/cmd/telegraf \
    custom,inputs.mqtt_consumer,outputs.kafka,parsers.value,serializers.template \
    "github.com/influxdata/telegraf@$TELEGRAF"
