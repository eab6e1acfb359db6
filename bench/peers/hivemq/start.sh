# shellcheck shell=bash
mkdir -p "$FOLDER/conf"
filled "$HERE/hivemq/config.xml.in" >"$FOLDER/conf/config.xml"
# What the broker's own start script opens of the virtual machine.
opened=(--add-opens={java.base/java.{lang,nio},java.base/sun.nio.ch,jdk.management/com.sun.management.internal}"=ALL-UNNAMED")
exec java -Xms1g -Xmx1g "${opened[@]}" -cp "$TO/libs/*:$TO/classes" Program "$FOLDER" "$SERVERS" "$TOPIC"
