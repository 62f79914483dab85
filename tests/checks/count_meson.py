#!/usr/bin/python3
"""Count a meson test log: prints "PASSED FAILED SKIPPED"; no log is one failure."""
import json
import sys

passed = failed = skipped = 0
try:
    with open(sys.argv[1], encoding="utf-8", errors="replace") as log:
        for line in log:
            result = json.loads(line)["result"]
            if result in ("OK", "EXPECTEDFAIL"):
                passed += 1
            elif result == "SKIP":
                skipped += 1
            else:
                failed += 1
except (OSError, ValueError, KeyError):
    failed += 1
if passed + failed + skipped == 0:
    failed = 1
print(passed, failed, skipped)
