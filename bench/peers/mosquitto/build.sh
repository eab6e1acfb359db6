# Debian's package: the version of the release.
# shellcheck shell=bash
debian mosquitto
no_service mosquitto
