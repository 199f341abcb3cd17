"""One user who tries to exceed their share in every way, beside an ordinary user, who is refused nothing and waits little longer."""

import json
import sqlite3
import statistics
import threading
import time
import urllib.parse
from pathlib import Path

import whole
from verdict import expect
from whole import SOURCE, Whole

# The maximum for one user.
TASKS = 5_000
UNREAD_LISTS, UNREAD_ARCHIVES, EVENT_STREAMS = 150, 16, 24
LARGE = 64 << 20

# The memory limit in MiB, and the shortest time that is worth comparing, in seconds.
MOST_MEMORY, LEAST = 150, 0.05

# The requests of the greedy user never complete.
SLOW = '  *slow*) exec sleep 600 ;;\n  *--skip-download*)'


class Memory(threading.Thread):
    """Records the peak memory of a process, in MiB."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.most, self.over = pid, 0.0, threading.Event()

    def run(self):
        while not self.over.wait(0.1):
            try:
                status = Path(f"/proc/{self.pid}/status").read_text()
            except OSError:
                return
            self.most = max(self.most, int(status.split("VmRSS:")[1].split()[0]) / 1024)


class Shares(Whole):
    """An instance with two users."""

    def __init__(self, binary, folder, clip):
        usual, whole.YT_DLP = whole.YT_DLP, whole.YT_DLP.replace("  *--skip-download*)", SLOW, 1)
        try:
            super().__init__(binary, folder, clip)
        finally:
            whole.YT_DLP = usual
        self.keys = {name: self.user(name) for name in ("ana", "eve")}

    def user(self, name):
        self.command("user", "add", name)
        return self.command("key", "create", "--user", name)["key"]

    def send(self, user, target, order=None, method=None):
        """Opens a connection and sends a request."""
        stream = self.tls()
        body = json.dumps(order).encode() if order is not None else b""
        method = method or ("POST" if order is not None else "GET")
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += f"X-API-Key: {self.keys[user]}\r\n" if user else ""
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        stream.sendall(head.encode() + b"\r\n" + body)
        return stream

    def ask(self, user, target, order=None):
        """Sends a request; returns status and body."""
        with self.send(user, target, order) as stream:
            stream.settimeout(120)
            answer = b"".join(iter(lambda: stream.recv(1 << 16), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def order(self, user, path):
        status, body = self.ask(user, "/api/download", {"url": f"http://{SOURCE}/{path}", "quality": "240p"})
        expect(status == 200, f"{user}'s order: {status} {body[:300]}")
        return json.loads(body)["id"]

    def completed(self, user, path):
        """Completes a new download; returns its ID, and how long it took."""
        started, wanted = time.monotonic(), self.order(user, path)
        while True:
            status, body = self.ask(user, "/api/v2/downloads?limit=5")
            expect(status == 200, f"{user}'s list: {status} {body[:300]}")
            task = next(t for t in json.loads(body)["downloads"] if t["id"] == wanted)
            if task["status"] == "completed":
                return wanted, time.monotonic() - started
            expect(time.monotonic() - started < 90, f"{user}'s download: {task}")
            time.sleep(0.2)

    def fill(self):
        """Fills the database with the maximum number of tasks for the greedy user, with long titles."""
        database = sqlite3.connect(self.folder / "data/worker.db", timeout=20)
        row = "INSERT INTO task (id, owner, url, quality, download_type, status, title, created_at) VALUES (?, 'eve', ?, 'best', 'video', 'error', ?, '2026-01-01T00:00:00Z')"
        tasks = ((f"{n:08x}-0000-4000-8000-000000000000", f"https://example.com/{'x' * 1900}{n}", 'é"' * 600) for n in range(TASKS - 100))
        with database:
            database.executemany(row, tasks)
        database.close()

    def worker(self):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next(int(pid) for pid in children if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:2])


def ordinary(shares, video, times):
    """Measures how long requests of an ordinary user take, in seconds; each must succeed."""
    taken = []
    for n in range(times):
        target = ("/api/v2/downloads?limit=20", "/api/downloads", f"/api/download/{video}/file", f"/api/v2/zip?ids={video}")[n % 4]
        started = time.monotonic()
        status, body = shares.ask("ana", target)
        expect(status == 200, f"an ordinary request was refused: {target}: {status} {body[:300]}")
        taken.append(time.monotonic() - started)
    return taken


def greed(shares, video, link):
    """Sends everything that the greedy user leaves unread; returns the open connections."""
    held = [shares.send("eve", "/api/downloads") for _ in range(UNREAD_LISTS)]
    held += [shares.send(None, link) for _ in range(UNREAD_ARCHIVES)]
    held += [shares.send("eve", f"/api/v2/zip?ids={video}") for _ in range(UNREAD_ARCHIVES)]
    held += [shares.send("eve", "/api/v2/events") for _ in range(EVENT_STREAMS)]
    held += [shares.send("eve", f"/api/search?q=slow{n}") for n in range(12)]
    held += [shares.send("eve", f"/api/v2/hls/{video}/index.m3u8") for _ in range(8)]
    for n in range(20):
        shares.order("eve", f"slow{n}")
    return held


def p99(taken):
    return statistics.quantiles(taken, n=100)[98]


def shares(gateways, quick):
    shares = Shares(gateways.binary, gateways.folder / "shares", gateways.media / "clip.mp4")
    held, times = [], 100 if quick else 400
    try:
        (video, _), (large, _) = shares.completed("ana", "clip"), shares.completed("eve", "clip")
        with (shares.folder / "data/media" / large / "media.mp4").open("ab") as file:
            file.truncate(LARGE)
        link = urllib.parse.urlsplit(shares.command("link", "create", f"/api/v2/zip?ids={large}", "--user", "eve")["url"])
        # Only the worker may open its database while it runs.
        shares.stop()
        shares.fill()
        shares.start("up")
        alone = ordinary(shares, video, times)
        _, download_alone = shares.completed("ana", "clip")
        memory, gateway = Memory(shares.worker()), shares.process.pid
        memory.start()
        held = greed(shares, large, f"{link.path}?{link.query}")
        time.sleep(3)  # the greed lasts a while before it is measured
        beside = ordinary(shares, video, times)
        _, download = shares.completed("ana", "clip")
        status, body = shares.ask("ana", "/api/search?q=cats")
        expect(status == 200, f"an ordinary search was refused: {status} {body[:300]}")
        beside += ordinary(shares, video, times)
        memory.over.set()
        figures = f"p99 {p99(alone) * 1e3:.0f} ms alone and {p99(beside) * 1e3:.0f} ms beside; a download {download_alone:.0f} s and {download:.0f} s"
        figures += f"; worker {memory.most:.0f} MiB at most; {len(beside)} requests, none refused"
        expect(p99(beside) < 2 * max(p99(alone), LEAST), figures)
        expect(memory.most < MOST_MEMORY, figures)
        expect(shares.process.poll() is None and shares.process.pid == gateway, "`up` has exited")
        return figures
    finally:
        for stream in held:
            stream.close()
        shares.stop()
