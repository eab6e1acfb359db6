"""tools/tidy.py can say no: each rule is broken once."""

import subprocess
import sys
import unittest

from harness import ROOT, Temp

SLEEP = "sl" + "eep"  # in one piece it would be found in this very file
BAD = {
    "src/base/a.c": ('#include "os/file.h"\n', "base may not include os"),
    "src/broker/b.c": ('#include "sink/kafka/kafka.h"\n', "broker may not include sink"),
    "src/sink/kafka/c.c": ('#include "journal/journal.h"\n', "sink may not include journal"),
    "src/sink/redis/d.c": ('#include "sink/kafka/kafka.h"\n', "sink/redis may not know sink/kafka"),
    "src/broker/e.c": ('#include "journal/lane_internal.h"\n', "is private to journal"),
    "src/journal/f.c": ("#include <unistd.h>\n", "only os/ talks to the kernel"),
    "src/pipeline/g.c": ("#include <librdkafka/rdkafka.h>\n", "belongs to sink/kafka/"),
    "src/admin/h.c": ("#include <yaml.h>\n", "belongs to config/"),
    "src/broker/openssl.c": ("#include <openssl/ssl.h>\n", "belongs to net/, auth/"),
    "src/net/i.c": ("void f(char *p)\n{\n    strcpy(p, p);\n}\n", "strcpy() is banned"),
    "src/net/j.c": ("/* FIX" "ME */\n", "unfinished"),
    "src/net/k.c": ("void f(void)\n{\n" + "    g();\n" * 71 + "}\n", "function of 71 code lines"),
    "src/net/l.c": ("\n" * 801, "801 lines"),
    "src/net/m.h": ("\n" * 251, "251 lines"),
    "src/net/n.c": ("/* " + "x" * 100 + " */\n", "columns"),
    "src/nowhere/o.c": ("\n", "not in MAY_INCLUDE"),
    "src/net/p.c": ('#include "net.h"\n', "whole path"),
    "test/unit/q.c": (f"void f(void)\n{{\n    u{SLEEP}(1);\n}}\n", "waits for an event"),
    "test/behaviour/r.py": (f"time.{SLEEP}(1)\n", "waits for an event"),
}
GOOD = {
    "src/broker/a.c": '#include "journal/journal.h"\n/* strcpy() is named only */\n',
    "src/os/posix/b.c": '#include "os/posix/posix_internal.h"\n#include <unistd.h>\n',
    "src/sink/kafka/c.c": "#include <librdkafka/rdkafka.h>\n",
    "src/app/d.c": '#include "sink/kafka/kafka.h"\n#include "broker/broker.h"\n',
    "src/net/e.c": "void f(void)\n{\n" + "    g();\n" * 70 + "}\n",
    "src/net/f.c": 'const char *p = "strcpy(";\n',
    "test/unit/g.c": f"void f(void)\n{{\n    u{SLEEP}(1); /* sleep: the clock must move */\n}}\n",
}


class Tidy(unittest.TestCase):
    def run_on(self, files):
        temp = Temp("tidy")
        self.addCleanup(temp.remove)
        for name, text in files.items():
            path = temp.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="ascii")
        done = subprocess.run([sys.executable, ROOT / "tools" / "tidy.py", temp.path],
                              capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    def test_each_broken_rule_is_found_where_it_is(self):
        for name, (text, expected) in BAD.items():
            with self.subTest(name):
                code, said = self.run_on({name: text})
                self.assertEqual(code, 1)
                self.assertIn(expected, said)
                self.assertTrue(said.startswith(f"{name}:"), said)

    def test_what_is_allowed_is_not_complained_about(self):
        self.assertEqual(self.run_on(GOOD), (0, ""))

    def test_a_cycle_in_the_table_is_refused(self):
        sys.path.insert(0, str(ROOT / "tools"))
        import tidy

        tidy.prove_acyclic(tidy.MAY_INCLUDE)
        with self.assertRaises(SystemExit):
            tidy.prove_acyclic({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()})


if __name__ == "__main__":
    unittest.main()
