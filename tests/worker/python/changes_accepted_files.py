"""A download that tries to change accepted files, and the permissions of the worker's folders. Reports what worked."""

import os
import sys

from stand_in import HOME, MP4, describe, is_allowed

job = HOME[:HOME.index(".jobs/") + 6 + 36]
data = job[:job.index("/media/.jobs")]
done = []


def attempt(name, what):
    if is_allowed(what):
        done.append(name)


attempt("plant", lambda: open(job + "/ready/media.mp4", "wb").write(MP4))
attempt("make", lambda: os.mkdir(job + "/other"))
attempt("list", lambda: os.listdir(job + "/ready"))
attempt("move", lambda: os.rename(job + "/ready", HOME + "/mine"))
for path in (job, job + "/ready", data, data + "/media", data + "/worker.db", data + "/secrets/worker.key"):
    attempt("chmod " + path, lambda: os.chmod(path, 0o755))
    attempt("chown " + path, lambda: os.chown(path, os.getuid(), os.getgid()))
    attempt("utime " + path, lambda: os.utime(path, (1, 1)))
    attempt("xattr " + path, lambda: os.setxattr(path, "user.x", b"x"))
    attempt("names", lambda: os.listdir(path))
describe(done)
sys.exit("ERROR: enough")
