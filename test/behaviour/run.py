"""run - one test file under CTest: python run.py test_mqtt.py [unittest arguments]

Says of each test how long it took.  Exit code 77 (CTest: skipped) when nothing of the file
could run; with CI=true a skipped test is a failed one.
"""

import importlib.util
import os
import pathlib
import signal
import sys
import time
import unittest


def load(path):
    sys.path.insert(0, str(path.parent))
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


class Timed(unittest.TextTestResult):
    """One line a test, with its time."""

    def startTest(self, test):
        self.began = time.monotonic()
        super().startTest(test)

    def stopTest(self, test):
        self.stream.writeln(f"    {time.monotonic() - self.began:.1f} s")
        super().stopTest(test)


def main():
    # Behind a shell's & it is ignored, and whatever a test starts would ignore it too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    module = load(pathlib.Path(sys.argv[1]).resolve())
    runner = unittest.TextTestRunner(verbosity=2, resultclass=Timed)
    program = unittest.main(module=module, argv=sys.argv[1:], testRunner=runner, exit=False)
    result = program.result
    if not result.wasSuccessful():
        return 1
    if result.skipped and os.environ.get("CI") == "true":
        print("CI may not skip:", *(f"  {test}: {why}" for test, why in result.skipped), sep="\n")
        return 1
    ran = result.testsRun - len(result.skipped)
    return 77 if result.skipped and ran <= 0 else 0


sys.exit(main())
