"""Many downloads of many users from a slow and faulty server, while the worker is killed repeatedly.

Every job completes or ends with an honest error, every file equals its source, and nothing is left over.
"""

import hashlib
import http.client
import json
import os
import random
import re
import signal
import sqlite3
import ssl
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from faulty_origin import Origin, make_media
from instance import free_ports, program, run
from verdict import expect

# Error messages that blame a job's failure on the worker, or name no cause.
DISHONEST = ("failed on this server", "stopped before it finished", "the download failed")


@dataclass
class Size:
    """The dimensions of a run."""

    jobs: int
    users: int
    kills: int
    between: float  # seconds between kills
    rate: int  # bytes per second for each connection
    stall: float  # seconds that a response stalls
    videos: tuple  # length of each video, in seconds
    patience: float  # seconds after the last kill

    @property
    def duration(self):
        return self.kills * self.between


WHOLE = Size(200, 20, 30, 20, 400_000, 20, (8, 14, 20, 26), 420)
QUICK = Size(12, 4, 3, 5, 1_000_000, 2, (3, 5), 60)


class Installation:
    """`sallyport up` with users, and a worker that may fetch from the origin."""

    def __init__(self, binary, folder, origin):
        self.binary, self.folder, self.config = binary, folder, folder / "config.toml"
        self.media, self.jobs = folder / "data/media", folder / "data/media/.jobs"
        self.port, plain, admin, worker = free_ports(4)
        self.admin = json.loads(run([binary, "init", "--json", "--dir", folder]).stdout)["api_key"]
        self.authority = ssl.create_default_context(cafile=str(folder / "certs/ca.pem"))
        policy = folder / "policies/worker.toml"
        policy.write_text(re.sub(r"rates = .*", 'rates = [{ limit = "6000/minute", by = "user" }]', policy.read_text()))
        self.config.write_text(f"""
[gateway]
listen = ["127.0.0.1:{self.port}"]
http_listen = ["127.0.0.1:{plain}"]
admin_listen = "127.0.0.1:{admin}"
[worker]
listen = "127.0.0.1:{worker}"
yt_dlp = "{tool("yt-dlp")}"
js_runtime = "{tool("deno")}"
allow_private = ["{origin.address}"]
concurrent_downloads = 6
retry_delay = "1s"
stall_timeout = "30s"
[[app]]
name = "downloads"
policy = "worker"
upstream = "127.0.0.1:{worker}"
""")
        self.log = (folder / "log").open("w")
        self.up = subprocess.Popen([binary, "up", "--config", self.config], stderr=self.log)

    def user(self, name):
        """Creates a user and returns a key of theirs."""
        run([self.binary, "user", "add", name, "--config", self.config], stdin=subprocess.DEVNULL)
        made = run([self.binary, "key", "create", "--user", name, "--json", "--config", self.config])
        return next(value for key, value in json.loads(made.stdout).items() if key in ("key", "api_key"))

    def ask(self, key, target, order=None):
        """Returns the body of a response, with retries while the worker is killed."""
        deadline = time.monotonic() + 30
        while True:
            connection = http.client.HTTPSConnection("localhost", self.port, timeout=30, context=self.authority)
            try:
                headers = {"X-API-Key": key} | ({"Content-Type": "application/json"} if order else {})
                connection.request("POST" if order else "GET", target, order and json.dumps(order), headers)
                answer = connection.getresponse()
                status, body = answer.status, answer.read()
                if status == 200:
                    return body
                expect(status in (502, 503, 504), f"{target}: {status} {body[:300]}")
            except (OSError, http.client.HTTPException):
                expect(self.up.poll() is None, f"`up` has exited: {self.said()[-2_000:]}")
            finally:
                connection.close()
            expect(time.monotonic() < deadline, f"{target} gets no response")
            time.sleep(0.2)

    def tasks(self):
        return json.loads(self.ask(self.admin, "/api/downloads"))

    def worker(self):
        """Returns the process ID of the worker, or None if there is none."""
        for pid in children(self.up.pid):
            if b"worker" in arguments(pid)[:2]:
                return pid
        return None

    def said(self):
        return (self.folder / "log").read_text()

    def stop(self):
        self.up.terminate()
        self.up.wait(60)
        self.log.close()


def tool(name):
    """Returns the path of a program, from the project's tools or the PATH."""
    own = Path(__file__).parents[2] / ".tools/bin" / name
    return own if own.exists() else program(name)


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def arguments(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def processes_in(folder):
    """Returns the processes that run in a folder or name it in their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                about = os.readlink(entry / "cwd") + (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(folder) in about:
                found.append(about.replace("\0", " ")[:200])
    return found


def kill_again_and_again(installation, size):
    """Kills the worker repeatedly, never the same process twice; returns the number of kills."""
    done, last = 0, None
    for _ in range(size.kills):
        time.sleep(size.between)  # the moments of the kills are the subject
        pid = installation.worker()
        if pid and pid != last:
            os.kill(pid, signal.SIGKILL)
            done, last = done + 1, pid
    return done


def order(installation, origin, names, size):
    """Places the orders of all users, spread over the time of the run; returns once the worker has confirmed each."""
    chance = random.Random(1)
    keys = {f"user{number}": installation.user(f"user{number}") for number in range(size.users)}
    begun = time.monotonic()
    for number in range(size.jobs):
        due = begun + size.duration * 0.8 * number / size.jobs
        time.sleep(max(0, due - time.monotonic()))
        url = f"http://{origin.address}/job{number}/{chance.choice(names)}"
        installation.ask(keys[f"user{number % size.users}"], "/api/download", {"url": url})


def wait_for_all(installation, jobs, patience):
    """Returns the tasks once all have ended."""
    deadline = time.monotonic() + patience
    while True:
        tasks = [task for task in installation.tasks() if "/job" in task["url"]]
        open_ = [task for task in tasks if task["status"] not in ("completed", "error")]
        if not open_ and len({task["url"] for task in tasks}) == jobs:
            return tasks
        states = Counter(task["status"] for task in tasks)
        expect(time.monotonic() < deadline, f"not all tasks have ended: {dict(states)}, such as {open_[:2]}")
        time.sleep(1)


def content(path):
    """Returns hashes of a file's streams, which do not depend on its container."""
    hashes = run(["ffmpeg", "-v", "error", "-i", path, "-map", "0", "-c", "copy", "-f", "streamhash", "-"]).stdout
    return tuple(sorted(hashes.split()))


def digest(path):
    return hashlib.file_digest(path.open("rb"), "sha256").hexdigest()


def references(installation, origin, names):
    """Returns the content that each source has without faults."""
    for name in names:
        installation.ask(installation.admin, "/api/download", {"url": f"http://{origin.address}/reference/{name}"})
    deadline = time.monotonic() + 120
    while {task["status"] for task in installation.tasks()} != {"completed"}:
        expect(time.monotonic() < deadline, f"references: {installation.tasks()}")
        time.sleep(0.5)
    made = {task["url"].rsplit("/", 1)[-1]: file_of(installation, task) for task in installation.tasks()}
    return {name: content(path) for name, path in made.items()}


def file_of(installation, task):
    files = list((installation.media / task["id"]).glob("media.*"))
    expect(len(files) == 1, f"{task}: {files}")
    return files[0]


def check_files(installation, origin, tasks, wanted):
    """Checks every file of a completed task byte for byte, and merged files stream by stream."""
    for task in tasks:
        name = task["url"].rsplit("/", 1)[-1]
        if task["status"] == "error":
            why = task["error_message"]
            expect(why and not any(text in why for text in DISHONEST), f"not an honest error: {task}")
            continue
        path = file_of(installation, task)
        if name.endswith(".mp4"):
            expect(digest(path) == digest(origin.folder / name), f"{name} differs from the source: {task}")
        expect(content(path) == wanted[name], f"the streams of {name} differ from those without faults: {task}")


def check_rest(installation):
    """Checks that no process and no unknown file is left, and that the database matches the files."""
    deadline = time.monotonic() + 20
    while (left := list(installation.jobs.iterdir())) or processes_in(installation.jobs):
        expect(time.monotonic() < deadline, f"left over: {left} {processes_in(installation.jobs)}")
        time.sleep(0.2)
    installation.stop()
    expect(not processes_in(installation.folder), f"left running: {processes_in(installation.folder)}")
    database = sqlite3.connect(installation.folder / "data/worker.db")
    done = database.execute("SELECT id, sha256, filesize FROM task WHERE status = 'completed'").fetchall()
    states = {state for (state,) in database.execute("SELECT DISTINCT status FROM task")}
    expect(states <= {"completed", "error"}, f"states at the end: {states}")
    folders = {path.name for path in installation.media.iterdir()} - {".jobs"}
    expect(folders == {task for task, _, _ in done}, f"folders and tasks differ: {folders ^ {row[0] for row in done}}")
    for task, sha256, bytes_ in done:
        path = file_of(installation, {"id": task})
        expect((digest(path), path.stat().st_size) == (sha256, bytes_), f"{task} does not match the database")


def soak(gateways, quick):
    size, folder, started = QUICK if quick else WHOLE, gateways.folder / "soak", time.monotonic()
    for path in (folder, folder / "origin", folder / "instance"):
        path.mkdir()
    names = make_media(folder / "origin", size.videos)
    origin = Origin(folder / "origin", 20 * size.rate, size.stall, seed=1)
    installation = Installation(gateways.binary, folder / "instance", origin)
    try:
        wanted = references(installation, origin, names)
        origin.rate, origin.share, origin.counts = size.rate, 0.05, Counter()
        killed = []
        killing = threading.Thread(target=lambda: killed.append(kill_again_and_again(installation, size)), daemon=True)
        killing.start()
        order(installation, origin, names, size)
        killing.join()
        tasks = wait_for_all(installation, size.jobs, size.patience)
        check_files(installation, origin, tasks, wanted)
        check_rest(installation)
    finally:
        if installation.up.poll() is None:
            installation.stop()
    expect(killed[0] >= size.kills - 1, f"{killed[0]} kills of {size.kills}")
    states, said, counts = Counter(task["status"] for task in tasks), installation.said(), origin.counts
    expect(states["completed"] >= size.jobs * 0.9, f"too few completed: {dict(states)}")
    faults = sum(counts[fault] for fault in counts if fault not in ("answers", None))
    retries, shared = said.count("waiting to retry"), said.count("file linked to an identical one")
    return (
        f"{len(tasks)} jobs of {size.users} users: {states['completed']} completed, all byte-identical, {states['error']} with an "
        f"error of the source; {killed[0]} kills, {retries} retries, {faults} faults in {counts['answers']} responses, "
        f"{shared} files shared, in {time.monotonic() - started:.0f} s; no process or folder left over"
    )
