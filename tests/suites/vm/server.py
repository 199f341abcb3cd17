"""The server in the virtual machine: installed as docs/systemd.md describes, and used from outside."""

import hashlib
import http.client
import json
import re
import shutil
import ssl
import tempfile
import threading
import time
from pathlib import Path

from instance import run
from verdict import expect

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs/systemd.md"
# The blocks that no other test runs.
BLOCK = re.compile(r"<!-- not run: needs root and systemd[^>]*-->\n```sh\n(.*?)```", re.DOTALL)
UNITS = [f"sallyport-{name}" for name in ("gateway.socket", "gateway.service", "worker.service", "egress.service")]
CONFIG = "/etc/sallyport/config.toml"
ORIGIN = "127.0.0.1:8090"

ORIGIN_UNIT = """[Service]
ExecStart=/usr/bin/python3 -B /mnt/faulty_origin.py /mnt/videos 8090 300000
[Install]
WantedBy=multi-user.target
"""


def lay_out(folder, binary, videos):
    """Lays out the files for the machine: the project with its build, and videos with their server."""
    (folder / "project/target/dist").mkdir(parents=True)
    run(["strip", "-o", folder / "project/target/dist/sallyport", binary])
    shutil.copytree(ROOT / "systemd", folder / "project/systemd")
    shutil.copytree(videos, folder / "videos")
    shutil.copy(ROOT / "tests/suites/faulty_origin.py", folder)
    return folder


class Server:
    """A machine with Sallyport installed, and the key that the installation printed."""

    def __init__(self, machine, videos):
        self.machine, self.videos = machine, videos
        self.bring()
        self.key = self.install()
        self.authority = self.trusted()

    def bring(self):
        """Copies the project's folder as it is after a build, and starts a server of videos."""
        unit = "/etc/systemd/system/origin.service"
        self.machine.run(f"cp -r /mnt/project /root; echo '{ORIGIN_UNIT}' >{unit}; systemctl enable --now -q origin")

    def install(self):
        """Runs the document's blocks unchanged; returns the first key."""
        blocks = BLOCK.findall(DOCUMENT.read_text())
        expect(len(blocks) == 4, f"{len(blocks)} installation blocks in {DOCUMENT}")
        said = self.machine.run("cd /root/project\n" + "\n".join(blocks))
        key = re.search(r"\bsp_\w+", said)
        expect(key, f"the installation prints no key: {said}")
        return key[0]

    def trusted(self):
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(self.machine.run("cat /etc/sallyport/certs/ca.pem"))
            file.flush()
            return ssl.create_default_context(cafile=file.name)

    def settle(self):
        """Changes the defaults: videos from loopback, no low rate limit, and time for yt-dlp to start under emulation."""
        self.machine.run(
            f"""sed -i 's|^allow_private = \\[\\]|allow_private = ["{ORIGIN}"]|; s|^stall_timeout = "60s"|stall_timeout = "15m"|' {CONFIG}
            sed -i 's|^rates = .*|rates = [{{ limit = "60000/minute", by = "user" }}]|' /etc/sallyport/policies/worker.toml
            systemctl restart sallyport-worker; systemctl restart sallyport-egress sallyport-gateway"""
        )
        self.until_ready()

    def until_ready(self, patience=300):
        """The seconds until the worker answers through the gateway."""
        begun = time.monotonic()
        while True:
            try:
                status, body = self.ask("/api/downloads")
                if status == 200:
                    return time.monotonic() - begun
                body = f"{status} {body[:300]}"
            except (OSError, http.client.HTTPException) as error:
                body = repr(error)
            expect(time.monotonic() < begun + patience, f"the server does not respond: {body}\n{self.journal()}")
            time.sleep(0.5)

    def journal(self):
        return self.machine.try_to_run("journalctl -b --no-pager -n 60 -u 'sallyport-*'").stdout

    def connect(self, timeout=60):
        return http.client.HTTPSConnection("localhost", self.machine.ports["gateway"], timeout=timeout, context=self.authority)

    def ask(self, target, order=None, key=None):
        """Sends a request; returns status and body."""
        connection = self.connect()
        try:
            headers = {"X-API-Key": key or self.key} | ({"Content-Type": "application/json"} if order else {})
            connection.request("POST" if order else "GET", target, order and json.dumps(order), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, target):
        status, body = self.ask(target)
        expect(status == 200, f"{target}: {status} {body[:300]}\n{self.journal()}")
        return body

    def order(self, name, mark, patience=600):
        """Orders a video, with retries until a worker that has just started has found its yt-dlp; returns the ID."""
        deadline, wanted = time.monotonic() + patience, {"url": f"http://{ORIGIN}/{mark}/{name}"}
        while True:
            status, body = self.ask("/api/download", wanted)
            if status == 200:
                return json.loads(body)["id"]
            waits = status == 503 and time.monotonic() < deadline
            expect(waits, f"an order: {status} {body[:300]}\n{self.journal()}")
            time.sleep(2)

    def tasks(self):
        return {task["id"]: task for task in json.loads(self.get("/api/downloads"))}

    def until_completed(self, ids, patience=3000):
        """Waits until all are completed; returns the seconds that this took."""
        begun = time.monotonic()
        while True:
            tasks = self.tasks()
            lost = [id_ for id_ in ids if id_ not in tasks]
            expect(not lost, f"{len(lost)} confirmed orders are missing, such as {lost[:1]}")
            wanted = [tasks[id_] for id_ in ids]
            failed = [task for task in wanted if task["status"] in ("error", "cancelled")]
            expect(not failed, f"a download failed: {failed[:2]}\n{self.journal()}")
            if all(task["status"] == "completed" for task in wanted):
                return time.monotonic() - begun
            expect(time.monotonic() < begun + patience, f"downloads did not end: {wanted}\n{self.journal()}")
            time.sleep(1)

    def check_files(self, ids):
        """Checks that each file equals the origin's, and that its thumbnail, if any, is complete; returns the number of bytes."""
        tasks, bytes_ = self.tasks(), 0
        for id_ in ids:
            name = tasks[id_]["url"].rsplit("/", 1)[-1]
            content, wanted = self.get(f"/api/download/{id_}/file"), (self.videos / name).read_bytes()
            expect(content == wanted, f"{name} of {id_}: {difference(content, wanted)}")
            bytes_ += len(content)
            if not tasks[id_]["thumbnail"]:
                continue  # ffmpeg exceeded the worker's time limit for a thumbnail.
            picture = self.get(f"/api/thumbnails/{id_}")
            jpeg = picture.startswith(b"\xff\xd8") and picture.endswith(b"\xff\xd9")
            expect(jpeg, f"{name}: the thumbnail is no JPEG: {picture[:20]}")
        return bytes_


class Asking(threading.Thread):
    """Sends requests continuously, over a new connection each time, until it is told to stop."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.ending, self.answers, self.slowest = server, threading.Event(), [], 0

    def run(self):
        while not self.ending.is_set():
            begun = time.monotonic()
            try:
                self.answers.append(self.server.ask("/api/downloads")[0])
            except (OSError, http.client.HTTPException) as error:
                self.answers.append(repr(error))
            self.slowest = max(self.slowest, time.monotonic() - begun)

    def end(self):
        self.ending.set()
        self.join(120)
        return self.answers


def difference(content, wanted):
    """Describes where two contents differ."""
    at = next((i for i, (a, b) in enumerate(zip(content, wanted, strict=False)) if a != b), min(len(content), len(wanted)))
    zeros = len(content) - at - len(content[at:].lstrip(b"\0"))
    digest = hashlib.sha256(content).hexdigest()
    return f"{len(content)} bytes of {len(wanted)}, different from {at} on, where {zeros} zeros begin; its SHA-256 is {digest}"
