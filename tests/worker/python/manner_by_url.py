"""Depending on the URL: waits as if it were merging, fails immediately, or downloads slowly."""

import sys
import time

from stand_in import HOME

arguments = " ".join(sys.argv)
if "merged" in arguments:
    print('Q {"status":"started","postprocessor":"Merger"}', file=sys.stderr, flush=True)
    time.sleep(300)
if "brief" in arguments:
    sys.exit("ERROR: it was its turn")
with open(HOME + "/tmp/media.mp4.part", "wb", buffering=0) as part:
    while True:
        part.write(bytes(8192))
        time.sleep(1)
