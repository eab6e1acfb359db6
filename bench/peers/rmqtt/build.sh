# A program of ours on RMQTT's crates.
# shellcheck shell=bash
tool cargo "Rust 1.94 or newer"
debian cmake g++ libssl-dev pkg-config
mkdir -p "$TO/work"
SOURCE=$HERE/rmqtt/main.rs filled "$HERE/rmqtt/Cargo.toml.in" >"$TO/work/Cargo.toml"
(cd "$TO/work" && cargo build --release) >"$TO/build.log" 2>&1 ||
    { tail -n 20 "$TO/build.log" >&2; die "the build failed; log: $TO/build.log"; }
cp "$TO/work/target/release/rmqtt" "$TO/program.new"
mv "$TO/program.new" "$TO/program"
