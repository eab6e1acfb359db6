# The broker's own embedded form, and an extension of ours in it.
# shellcheck shell=bash
debian default-jdk-headless maven
mkdir -p "$TO/work" "$TO/classes"
filled "$HERE/hivemq/pom.xml.in" >"$TO/work/pom.xml"
{
    (cd "$TO/work" && mvn -q -B dependency:copy-dependencies -DoutputDirectory="$TO/libs") &&
        javac -cp "$TO/libs/*" -d "$TO/classes" "$HERE/hivemq/Program.java"
} >"$TO/build.log" 2>&1 || { tail -n 20 "$TO/build.log" >&2; die "the build failed; log: $TO/build.log"; }
