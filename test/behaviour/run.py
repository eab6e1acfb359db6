"""run - one test file under CTest: python run.py test_mqtt.py [unittest arguments]

Exit code 77 (CTest: skipped) when nothing of the file could run; with CI=true a
skipped test is a failed one.
"""

import importlib.util
import os
import pathlib
import sys
import unittest


def load(path):
    sys.path.insert(0, str(path.parent))
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def main():
    module = load(pathlib.Path(sys.argv[1]).resolve())
    program = unittest.main(
        module=module, argv=sys.argv[1:], verbosity=2, exit=False, buffer=False
    )
    result = program.result
    if not result.wasSuccessful():
        return 1
    if result.skipped and os.environ.get("CI") == "true":
        print("CI may not skip:", *(f"  {test}: {why}" for test, why in result.skipped), sep="\n")
        return 1
    ran = result.testsRun - len(result.skipped)
    return 77 if result.skipped and ran <= 0 else 0


sys.exit(main())
