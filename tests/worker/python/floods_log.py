"""A download that fails with far more errors than a log should hold."""

import sys

for number in range(2000):
    print("ERROR: " + "x" * 60000, file=sys.stderr, flush=True)
sys.exit(1)
