"""The first process of a namespace, which tries to drop its parent-death signal, ignores SIGTERM and never ends."""

import ctypes
import signal
import time

libc = ctypes.CDLL(None)
print("refused" if libc.prctl(1, 0) == -1 else "allowed", flush=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(1000)
