"""A real systemd: Debian 13 in a virtual machine, installed by docs/systemd.md, rebooted, and cut off from power."""

import http.client
import os
import re
import subprocess
import threading
import time
from pathlib import Path

from faulty_origin import make_media
from instance import program
from verdict import Skipped, expect

from .machine import Machine
from .server import CONFIG, UNITS, Asking, Server, lay_out

IMAGE = Path(__file__).parents[3] / "target/vm"
NEEDED = ("qemu-system-x86_64", "qemu-img", "debootstrap", "mkfs.ext4", "ssh", "ffmpeg")
# Length of each video in seconds.
VIDEOS = (4, 7)
# A video that takes half a minute to download, and that exceeds the socket buffers when it is streamed.
LONG, FILLING = "video1.mp4", 8 << 20
# The orders before each power cut, and the seconds for which the first video has then been downloading.
ORDERS, CUTS = (LONG, "video0.mp4", LONG), (1, 8)


def vm(gateways, quick):
    """Runs all steps; returns the figures."""
    if os.geteuid() != 0:
        raise Skipped("it creates a Debian installation, which requires root")
    for name in NEEDED:
        program(name)
    begun, folder = time.monotonic(), gateways.folder / "vm"
    videos = folder / "videos"
    videos.mkdir(parents=True)
    make_media(videos, VIDEOS)
    with (videos / LONG).open("ab") as video:
        # An MP4 box that players ignore.
        video.write((8 + FILLING).to_bytes(4, "big") + b"free" + os.urandom(FILLING))
    subprocess.run([Path(__file__).parent / "image.sh", IMAGE], check=True)
    made = time.monotonic() - begun
    machine = Machine(IMAGE, folder, lay_out(folder / "content", gateways.binary, videos))
    try:
        figures = [f"image ready after {made:.0f} s", f"boot {machine.boot():.0f} s"]
        for figure in steps(machine, videos):
            print(f"   vm, {time.monotonic() - begun:.0f} s: {figure}", flush=True)
            figures.append(figure)
    finally:
        machine.power_cut()
    return f"{'; '.join(figures)}; {time.monotonic() - begun:.0f} s in total"


def steps(machine, videos):
    """Yields the figure of each step."""
    begun = time.monotonic()
    server = Server(machine, videos)
    yield f"installed by the document's blocks in {time.monotonic() - begun:.0f} s"
    yield units(machine)
    server.settle()
    yield one_download(server)
    for name in WAYS:
        yield under_a_stream(server, name)
    yield restarts(server)
    yield reboot(server)
    for seconds in CUTS:
        yield power_cut(server, seconds)


def units(machine):
    """Checks that all units are active, none has failed, and their exposure is low."""
    machine.run(f"systemctl is-active {' '.join(UNITS)}")
    failed = machine.run("systemctl --failed --no-legend --plain")
    expect(not failed.strip(), f"failed units: {failed}")
    exposed = machine.run("systemd-analyze security --no-pager | grep sallyport")
    figures = dict(re.findall(r"sallyport-(\w+)\.service +([\d.]+)", exposed))
    expect(len(figures) == 3 and all(float(figure) <= 1.5 for figure in figures.values()), f"exposed: {exposed}")
    return "4 units active, none failed, exposed " + ", ".join(f"{name} {figure}" for name, figure in figures.items())


def one_download(server):
    """Downloads without a default route, which this machine does not have at first."""
    expect(no_route(server), "there is a default route")
    id_ = server.order(LONG, "first")
    took = server.until_completed([id_])
    return f"a download without a default route in {took:.0f} s, {server.check_files([id_])} bytes as the origin has them"


def no_route(server):
    return not server.machine.run("ip -4 route show default").strip()


# How the gateway is restarted, and how to see that the restart is under way.
WAYS = {
    "reload": ("systemctl reload sallyport-gateway", "true"),
    "SIGUSR2": ("systemctl kill --kill-whom=main -s USR2 sallyport-gateway", '[ "$(main)" != "$before" ]'),
    "restart": ("systemctl restart --no-block sallyport-gateway", '[ "$(systemctl is-active sallyport-gateway)" = deactivating ]'),
}
MAIN = "main() { systemctl show -P MainPID sallyport-gateway; }"
# With a time limit.
UNTIL, PAUSE = "left=600; until", "sleep 0.2; left=$((left - 1)); [ $left -gt 0 ]"


def under_a_stream(server, name):
    """A stream continues to its end, and new clients are served meanwhile."""
    id_ = next(id_ for id_, task in server.tasks().items() if task["url"].endswith(LONG))
    (way, sign), wanted = WAYS[name], (server.videos / LONG).read_bytes()
    stream, asking = Stream(server, f"/api/download/{id_}/file"), Asking(server)
    stream.start()
    asking.start()
    stream.begun.wait(60)
    server.machine.run(f"{MAIN}; before=$(main); echo $before >/run/before; {way}; {UNTIL} {sign}; do {PAUSE}; done")
    stream.hasten.set()
    stream.join(120)
    server.machine.run(f"{UNTIL} systemctl is-active --quiet {' '.join(UNITS)}; do {PAUSE}; done")
    server.until_ready()
    answers = asking.end()
    expect(stream.body == wanted, f"{name}: the stream was cut off: {len(stream.body)} of {len(wanted)}")
    expect(set(answers) == {200}, f"{name}: other clients received {set(answers)}")
    kept = "=" if name == "reload" else "!="
    server.machine.run(f'{MAIN}; [ "$(main)" {kept} "$(cat /run/before)" ]')
    return f"{name}: a complete stream of {len(wanted)} bytes, {len(answers)} new connections served, the slowest in {asking.slowest:.1f} s"


class Stream(threading.Thread):
    """Reads a response so slowly that most of it remains, until `hasten` is set."""

    def __init__(self, server, target):
        super().__init__(daemon=True)
        self.server, self.target, self.body = server, target, b""
        self.begun, self.hasten = threading.Event(), threading.Event()

    def run(self):
        connection = self.server.connect()
        try:
            connection.request("GET", self.target, headers={"X-API-Key": self.server.key})
            answer = connection.getresponse()
            while piece := answer.read(16384):
                self.body += piece
                self.begun.set()
                if not self.hasten.is_set():
                    self.hasten.wait(0.2)
        except (OSError, http.client.HTTPException):
            pass  # The body shows it.
        finally:
            connection.close()


def restarts(server):
    """Restarts six times through systemd, then kills all processes six times."""
    server.machine.run("for i in 1 2 3 4 5 6; do systemctl restart sallyport-gateway; done")
    server.until_ready()
    for _ in range(6):
        server.machine.run("systemctl kill -s KILL --kill-whom=main sallyport-gateway sallyport-worker sallyport-egress || true")
        time.sleep(0.5)  # the next kill comes while the units start again
    back = server.until_ready()
    server.machine.run(f"systemctl is-active {' '.join(UNITS)}")
    return f"12 quick restarts: the ports are open, serving again {back:.0f} s after the last"


def reboot(server):
    """Everything starts automatically, and downloads work once a default route is added later."""
    ids = [id_ for id_, task in server.tasks().items() if task["status"] == "completed"]
    took, ready = server.machine.reboot(), server.until_ready()
    expect(no_route(server), "there is a default route")
    figure = units(server.machine)
    stops = server.machine.run("journalctl -b -1 -o cat -u 'sallyport-*' | grep -E 'Stopped sallyport-w|Stopping sallyport-e' | tail -n 2")
    expect(stops.startswith("Stopped"), f"the egress guard stops before the worker: {stops}")
    server.check_files(ids)
    server.machine.run("ip route add default via 10.0.2.2")
    new = server.order("video0.mp4", "rebooted")
    server.until_completed([new])
    server.check_files([new])
    return f"reboot {took:.0f} s, serving {ready:.0f} s later: {figure}; {len(ids)} file unchanged, and a new one with a default route"


def power_cut(server, seconds):
    """Cuts the power while keys are created and videos downloaded; afterwards everything that was confirmed must exist."""
    finished = [id_ for id_, task in server.tasks().items() if task["status"] == "completed"]
    keys = Keys(server.machine)
    keys.start()
    ordered = [server.order(name, f"cut{seconds}-{number}") for number, name in enumerate(ORDERS)]
    states = until_coming(server, ordered)
    time.sleep(seconds)  # the moment of the power cut is the subject
    server.machine.power_cut()
    keys.join(60)
    boot, ready = server.machine.boot(), server.until_ready()
    refused = [key for key in keys.given if server.ask("/api/downloads", key=key)[0] != 200]
    expect(keys.given and not refused, f"{len(refused)} of {len(keys.given)} keys that were issued do not work")
    took = server.until_completed(ordered + finished)
    bytes_ = server.check_files(ordered + finished)
    units(server.machine)
    return (
        f"power cut with {', '.join(states)}: boot {boot:.0f} s, serving {ready:.0f} s later; {len(keys.given)} of {len(keys.given)} "
        f"keys work, {len(ordered)} of {len(ordered)} orders exist and completed {took:.0f} s later, "
        f"{len(ordered + finished)} files of {bytes_} bytes equal, and no thumbnail is empty"
    )


def until_coming(server, ids, patience=600):
    """Returns the states of downloads once the first of a long video has begun to arrive."""
    deadline = time.monotonic() + patience
    while True:
        tasks = [server.tasks()[id_] for id_ in ids]
        if any(task["status"] == "downloading" and task["downloaded_bytes"] > 1 << 20 for task in tasks):
            return [task["status"] for task in tasks]
        expect(time.monotonic() < deadline, f"no download begins: {tasks}\n{server.journal()}")
        time.sleep(1)


class Keys(threading.Thread):
    """Creates one key after the other; keys that the command has printed in full count as issued."""

    def __init__(self, machine):
        super().__init__(daemon=True)
        loop = f"while runuser -u sallyport -- sallyport key create --json --config {CONFIG}; do :; done"
        self.making, self.given = machine.start(loop), []

    def run(self):
        self.given = re.findall(r'"(sp_[^"]+)"', self.making.stdout.read())
