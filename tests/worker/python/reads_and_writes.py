"""A search that tries to read, write and list what is not its own. Reports what worked. A download works.

The search's text is the path of another user's video.
"""

import os
import sys

from stand_in import HOME, MP4, answer_search, finish, is_allowed

if os.path.isdir(HOME + "/out"):
    with open(HOME + "/out/media.mp4", "wb") as own:
        own.write(MP4 + bytes(1000))
    finish(HOME + "/out/media.mp4")
    sys.exit()
video = sys.argv[-1].split(":", 1)[1]
data = os.path.dirname(os.path.dirname(os.path.dirname(HOME)))
root = os.path.dirname(data)


def opens(path, mode):
    return is_allowed(lambda: open(path, mode).close())


read = [data + "/worker.db", data + "/secrets/worker.key", data + "/secrets/egress.key", root + "/config.toml", root + "/log",
        "/etc/passwd", "/etc/shadow", "/root/.bashrc", "/proc/1/environ", "/proc/1/cmdline", "/proc/self/../1/status", video]
write = [video, data + "/x", data + "/media/x", data + "/media/.jobs/x", root + "/x", "/tmp/x", "/var/tmp/x", "/dev/shm/x", "/usr/x"]
listed = [data, data + "/media", os.path.dirname(video), "/root", "/home", "/tmp", "/etc", "/proc", "/var"]
answer_search({
    "read": [path for path in read if opens(path, "r")],
    "written": [path for path in write if opens(path, "w")],
    "listed": [path for path in listed if is_allowed(lambda: os.listdir(path))],
    "own": opens(HOME + "/x", "w") and opens(HOME + "/x", "r"),
})
