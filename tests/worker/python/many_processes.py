"""A search that starts as many processes as it can. Reports how many."""

import os
import time

from stand_in import answer_search

started = 0
try:
    while started < 1024:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        started += 1
except OSError:
    pass
answer_search(started)
