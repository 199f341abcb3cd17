"""A search that takes as much memory and as many tasks as it can. Reports whether it got all, some or none of each."""

import mmap
import threading

from stand_in import answer_search


def memory():
    blocks = []
    try:
        for _ in range(96):
            blocks.append(mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        return "all"
    except (OSError, MemoryError):
        return "some" if blocks else "none"


def tasks():
    stop, threads = threading.Event(), []
    try:
        for _ in range(2000):
            thread = threading.Thread(target=stop.wait, daemon=True)
            thread.start()
            threads.append(thread)
        return "all"
    except RuntimeError:
        return "some" if threads else "none"
    finally:
        stop.set()


answer_search([memory(), tasks()])
