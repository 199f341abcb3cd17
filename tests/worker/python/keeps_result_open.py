"""A download with a hidden process, which keeps the result open to change it later.

If THEN is `attack`, it tries to keep its parent, the reaper, from ending that process, and reports what worked. If THEN is `wait`, it
waits for the file `go` in its folder.
"""

import os
import resource
import time

from stand_in import HOME, MP4, describe, finish, is_allowed

reaper = os.getppid()
video = os.open(HOME + "/out/media.mp4", os.O_RDWR | os.O_CREAT, 0o600)
os.write(video, MP4 + bytes(100000))
hidden, ready = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in (0, 1, 2):
            os.close(fd)
        os.write(ready, b"x")
        time.sleep(60)
        os.pwrite(video, b"changed", 1000)
    os._exit(0)
os.read(hidden, 1)
attempts = {
    "prlimit": lambda: resource.prlimit(reaper, resource.RLIMIT_NOFILE, (0, 0)),
    "setpriority": lambda: os.setpriority(os.PRIO_PROCESS, reaper, 19),
    "of all": lambda: os.setpriority(os.PRIO_USER, 0, 19),
    "affinity": lambda: os.sched_setaffinity(reaper, {0}),
    "scheduler": lambda: os.sched_setscheduler(reaper, os.SCHED_IDLE, os.sched_param(0)),
    "kill": lambda: os.kill(reaper, 0),
    "kill all": lambda: os.kill(-1, 0),
}
if os.environ["THEN"] == "attack":
    describe([name for name, attempt in attempts.items() if is_allowed(attempt)])
finish(HOME + "/out/media.mp4")
while os.environ["THEN"] == "wait" and not os.path.exists(HOME + "/go"):
    time.sleep(0.05)
