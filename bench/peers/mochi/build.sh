# A program of ours on two libraries.
# shellcheck shell=bash
go_program . "" "github.com/mochi-mqtt/server/v2@$MOCHI" "github.com/twmb/franz-go@$FRANZ_GO"
