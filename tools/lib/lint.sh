# shellcheck shell=bash
# lint.sh - sourced by ./dev: the checks that need no running program.

c_files() { find src test bench -name '*.[ch]' -o -name '*.cpp' | sort; }
shell_files() { echo dev .ci/run tools/lib/clang-tidy-one; find tools test bench -name '*.sh'; }

lint_all() {
    local failed=0
    say "lint"
    c_files | xargs -r clang-format-19 --dry-run -Werror || failed=1
    /usr/bin/python3 tools/tidy.py || failed=1
    shell_files | xargs shellcheck -x || failed=1
    lint_clang_tidy || failed=1
    [ $failed = 0 ] || die "lint found something; ./dev format mends what is only layout"
}

# clang-tidy is slow, so a file that passed is looked at again only after it,
# any header or the check list changed.  A fresh checkout looks at all.
lint_clang_tidy() {
    mkdir -p build/lint
    clang_tidy_stale | xargs -r -P "$JOBS" -L 1 tools/lib/clang-tidy-one
}

# "FILE STAMP" lines, for every source whose stamp is too old.
clang_tidy_stale() {
    local newest file stamp
    newest=$(find src .clang-tidy \( -name '*.h' -o -name .clang-tidy \) -printf '%T@ %p\n' |
        sort -rn | sed -n '1s/^[^ ]* //p')
    find src -name '*.c' -o -name '*.cpp' | sort | while read -r file; do
        stamp=build/lint/${file//\//_}
        [[ $stamp -nt $file && $stamp -nt $newest ]] || echo "$file $stamp"
    done
}
