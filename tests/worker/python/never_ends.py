"""A process that never ends, and has started another one in a session of its own."""

import subprocess
import time

subprocess.Popen(["setsid", "sleep", "1000"])
time.sleep(1000)
