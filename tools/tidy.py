#!/usr/bin/env python3
"""tidy - the rules of this code base that no compiler knows.  No output: clean.

MAY_INCLUDE is the architecture, who may see whom.  Before a file is looked at
it is proven to have no cycle.  The rest is what keeps a stranger able to read
any file in one sitting: sizes, banned calls, no sleeping in tests.

    tools/tidy.py [ROOT]          ROOT: the repository (default: where this lies)
"""
import pathlib
import re
import sys

ALL = "base os codec config journal store net auth plugin broker sink pipeline admin app"
MAY_INCLUDE = {
    "base": "",
    "os": "base",
    "codec": "base",
    "config": "base",
    "journal": "base os",
    "store": "base os",
    "net": "base os",
    "auth": "base os codec",
    "plugin": "base config",
    "broker": "base os config codec journal store net auth",
    "sink": "base os config codec plugin",
    "pipeline": "base os config codec journal plugin",
    "admin": "base os config",
    "app": ALL,
}
MAY_INCLUDE = {folder: set(seen.split()) - {folder} for folder, seen in MAY_INCLUDE.items()}

# Plugins: folders whose sub-folders do not know each other.
PLUGINS = {"sink"}

# What only one place may talk to.  Tests and benches may use all of it.
KERNEL = re.compile(
    r"sys/|unistd\.h|fcntl\.h|pthread\.h|time\.h|netinet/|arpa/|netdb\.h|poll\.h|signal\.h|dirent\.h"
    r"|net/|linux/|liburing\.h|termios\.h|sched\.h|threads\.h|semaphore\.h|spawn\.h|pwd\.h|grp\.h"
)
# Where the rule has an exception, with its reason.
KERNEL_ALLOWED = {
    ("config/load.c", "dirent.h"): "conf.d, at start-up only; config sees nothing but base",
}
LIBRARIES = {
    "librdkafka/": ["sink/kafka"],
    "curl/": ["sink/kafka", "auth"],
    "yaml.h": ["config"],
    "microhttpd.h": ["admin"],
    "isa-l": ["base"],
    "simdjson.h": ["codec"],
    "openssl/": ["net", "auth", "sink/kafka"],
    "lmdb.h": ["store"],
    "wslay/": ["net"],
}

BANNED = {
    "strcpy": "mr_text_add",
    "strcat": "mr_text_add",
    "sprintf": "mr_text_fmt",
    "vsprintf": "mr_text_fmt",
    "strtok": "mr_span functions",
    "gets": "fgets",
    "atoi": "a parser that reports errors",
    "atol": "a parser that reports errors",
    "malloc": "mr_alloc",
    "calloc": "mr_alloc",
    "realloc": "mr_alloc",
    "free": "mr_free",
    "alloca": "a buffer of fixed size",
    "abort": "mr_assert",
}
BANNED_CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\(")
# The home of mr_alloc and mr_assert, and the pool whose limit is no reason to end.
ALLOCATORS = {"base/base.c", "base/bufpool.c"}
UNFINISHED = re.compile(r"\b(FIX" r"ME|TO" r"DO|XX" r"X)\b")
SLEEP = re.compile(r"(?<![\w.])(?:time\.)?(sleep|usleep|nanosleep)\(")

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 800
TEST_LINES_MAX = 1000  # a list of cases, read one at a time
HEADER_LINES_MAX = 250  # a contract is read in one sitting
INTERNAL_LINES_MAX = 400  # the shared inside of one folder
COLUMNS_MAX = 100


def without_comments(text):
    """The code alone, line for line: comments and string contents are blanked."""

    def blank(match):
        found = match.group()
        if found.startswith(("'", '"')):
            return found[0] + " " * (len(found) - 2) + found[-1]
        return re.sub(r"[^\n]", " ", found)

    return re.sub(
        r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S
    )


def prove_acyclic(table):
    """Take away, again and again, whoever sees nobody that is left."""
    left = {folder: set(seen) for folder, seen in table.items()}
    while left:
        free = {folder for folder, seen in left.items() if not seen & left.keys()}
        if not free:
            sys.exit(f"tools/tidy.py: MAY_INCLUDE has a cycle among {', '.join(sorted(left))}")
        left = {folder: seen for folder, seen in left.items() if folder not in free}


class File:
    def __init__(self, root, path):
        self.path = path.relative_to(root)
        self.parts = self.path.parts
        self.text = path.read_text(encoding="utf-8", errors="replace")
        self.lines = self.text.split("\n")
        self.code = without_comments(self.text).split("\n")
        self.in_src = self.parts[0] == "src"
        # The architecture's name of where the file lives: src/sink/kafka/x.c is in sink.
        self.folder = self.parts[1] if self.in_src and len(self.parts) > 2 else None
        self.found = []

    def say(self, number, what):
        self.found.append(f"{self.path}:{number}: {what}")

    def check(self):
        self.check_sizes()
        self.check_words()
        self.check_functions()
        if self.folder is not None and self.folder not in MAY_INCLUDE:
            self.say(1, f"folder '{self.folder}' is not in MAY_INCLUDE of tools/tidy.py")
        elif self.in_src:
            self.check_includes()
        return self.found

    def check_sizes(self):
        limit = FILE_LINES_MAX if self.in_src else TEST_LINES_MAX
        if self.path.suffix == ".h" and self.in_src:
            inside = self.path.name.endswith("_internal.h")
            limit = INTERNAL_LINES_MAX if inside else HEADER_LINES_MAX
        if len(self.lines) - 1 > limit:
            self.say(1, f"{len(self.lines) - 1} lines, at most {limit}: split it")
        for number, line in enumerate(self.lines, 1):
            if len(line) > COLUMNS_MAX:
                self.say(number, f"{len(line)} columns, at most {COLUMNS_MAX}")

    def check_words(self):
        free = "/".join(self.parts[1:]) in ALLOCATORS
        for number, (line, code) in enumerate(zip(self.lines, self.code), 1):
            if UNFINISHED.search(line):
                self.say(number, "unfinished: finish it, or open an issue")
            for match in BANNED_CALL.finditer(code) if self.in_src and not free else ():
                self.say(number, f"{match[1]}() is banned here; use {BANNED[match[1]]}")
            if self.parts[0] == "test" and SLEEP.search(code) and "sleep:" not in line:
                self.say(number, "a test waits for an event; if it truly must sleep, "
                                 "say why in a comment 'sleep: ...' on this line")

    def check_functions(self):
        """A function begins with '{' alone in column 1 and ends with '}' alone."""
        begin = None
        for number, code in enumerate(self.code, 1):
            if code == "{":
                begin = number
            elif code.rstrip() == "}" and begin is not None:
                size = sum(1 for line in self.code[begin : number - 1] if line.strip())
                if size > FUNCTION_LINES_MAX:
                    self.say(begin, f"a function of {size} code lines, at most {FUNCTION_LINES_MAX}")
                begin = None

    def check_includes(self):
        for number, line in enumerate(self.lines, 1):
            own = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
            system = re.match(r"\s*#\s*include\s*<([^>]+)>", line)
            if own:
                self.check_own_include(number, own[1])
            elif system:
                self.check_system_include(number, system[1])

    def check_own_include(self, number, header):
        to = header.split("/")
        if len(to) < 2:
            self.say(number, f'write the whole path from src/: "{header}"')
            return
        if to[-1].endswith("_internal.h") and list(self.parts[1:-1])[: len(to) - 1] != to[:-1]:
            self.say(number, f"{header} is private to {'/'.join(to[:-1])}")
        if self.folder is None or to[0] == self.folder:
            if to[0] in PLUGINS and self.folder == to[0] and self.parts[2] != to[1]:
                self.say(number, f"{'/'.join(self.parts[1:3])} may not know {'/'.join(to[:2])}")
        elif to[0] not in MAY_INCLUDE[self.folder]:
            self.say(number, f"{self.folder} may not include {to[0]}")

    def check_system_include(self, number, header):
        here = "/".join(self.parts[1:])
        if KERNEL.match(header) and self.folder != "os" and (here, header) not in KERNEL_ALLOWED:
            self.say(number, f"<{header}>: only os/ talks to the kernel")
        for library, homes in LIBRARIES.items():
            at_home = any(here.startswith(home + "/") for home in homes)
            if header.startswith(library) and not at_home:
                self.say(number, f"<{header}> belongs to {'/, '.join(homes)}/")


class Script:
    """Python of the tests: no sleeping, nothing unfinished."""

    def __init__(self, root, path):
        self.path = path.relative_to(root)
        self.lines = path.read_text(encoding="utf-8").split("\n")

    def check(self):
        for number, line in enumerate(self.lines, 1):
            if UNFINISHED.search(line):
                yield f"{self.path}:{number}: unfinished: finish it, or open an issue"
            if SLEEP.search(line.split("#")[0]) and "sleep:" not in line:
                yield f"{self.path}:{number}: a test waits for an event; if it truly must " \
                      "sleep, say why in a comment '# sleep: ...' on this line"
            if len(line) > COLUMNS_MAX:
                yield f"{self.path}:{number}: {len(line)} columns, at most {COLUMNS_MAX}"


def main():
    prove_acyclic(MAY_INCLUDE)
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
    if root.is_file():
        root = root.parent.parent
    found = []
    for folder in ("src", "test", "bench"):
        for pattern in ("*.[ch]", "*.cpp"):
            for path in sorted((root / folder).rglob(pattern)):
                found += File(root, path).check()
        for path in sorted((root / folder).rglob("*.py")):
            found += Script(root, path).check()
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
