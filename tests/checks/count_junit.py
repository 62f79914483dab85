#!/usr/bin/python3
"""Count a JUnit file of pytest: prints "PASSED FAILED SKIPPED"; no file, or no test, is one failure."""
import sys
import xml.etree.ElementTree as tree

try:
    suite = tree.parse(sys.argv[1]).getroot().find("testsuite")
    total = int(suite.get("tests"))
    failed = int(suite.get("failures")) + int(suite.get("errors"))
    skipped = int(suite.get("skipped"))
    if total == 0:
        failed = 1
    print(max(0, total - failed - skipped), failed, skipped)
except (OSError, AttributeError, tree.ParseError):
    print(0, 1, 0)
