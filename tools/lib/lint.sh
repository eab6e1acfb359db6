# shellcheck shell=bash
# lint.sh - sourced by ./dev: the checks that need no running program.

c_files() { find src test bench -name '*.[ch]' -o -name '*.cpp' | sort; }
shell_files() { echo dev .ci/run tools/lib/clang-tidy-one; find tools test bench -name '*.sh'; }

lint_all() {
    local failed=0
    say "lint"
    c_files | xargs -r clang-format-19 --dry-run -Werror || failed=1
    /usr/bin/python3 tools/tidy.py || failed=1
    /usr/bin/python3 tools/conformance.py || failed=1
    shell_files | xargs shellcheck -x || failed=1
    lint_clang_tidy || failed=1
    [ $failed = 0 ] || die "lint found something; ./dev format mends what is only layout"
}

# clang-tidy is slow, so a file that passed is looked at again only when it, a header that it
# includes or the check list is another.  A fresh checkout looks at all.  LINT_STAMPS: where several
# checkouts remember together.
lint_clang_tidy() {
    local stamps=${LINT_STAMPS:-build/lint}
    mkdir -p "$stamps"
    /usr/bin/python3 tools/lib/clang_tidy_stale.py "$stamps" | xargs -r -P "$JOBS" -L 1 tools/lib/clang-tidy-one
}
