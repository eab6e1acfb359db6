# Debian's package, with the MQTT plug-in that is part of it.
# shellcheck shell=bash
debian rabbitmq-server
no_service rabbitmq-server
