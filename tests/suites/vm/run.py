"""Under a real systemd: Debian 13 in a virtual machine, installed by docs/systemd.md, rebooted, and cut off from its power."""

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
# Seconds of each film.
FILMS = (4, 7)
# A film that takes half a minute to come, and more than sockets hold when it is streamed.
LONG, FILLING = "film1.mp4", 8 << 20
# What is ordered before each power cut, and the seconds that the first film then has been coming.
ORDERS, CUTS = (LONG, "film0.mp4", LONG), (1, 8)


def vm(gateways, quick):
    """All of it; the figures."""
    if os.geteuid() != 0:
        raise Skipped("it makes a Debian of its own, which takes root")
    for name in NEEDED:
        program(name)
    begun, folder = time.monotonic(), gateways.folder / "vm"
    films = folder / "films"
    films.mkdir(parents=True)
    make_media(films, FILMS)
    with (films / LONG).open("ab") as film:
        # A box of MP4 that players pass over.
        film.write((8 + FILLING).to_bytes(4, "big") + b"free" + os.urandom(FILLING))
    subprocess.run([Path(__file__).parent / "image.sh", IMAGE], check=True)
    made = time.monotonic() - begun
    machine = Machine(IMAGE, folder, lay_out(folder / "content", gateways.binary, films))
    try:
        figures = [f"image ready after {made:.0f} s", f"boot {machine.boot():.0f} s"]
        for figure in steps(machine, films):
            print(f"   vm, {time.monotonic() - begun:.0f} s: {figure}", flush=True)
            figures.append(figure)
    finally:
        machine.power_cut()
    return f"{'; '.join(figures)}; in all {time.monotonic() - begun:.0f} s"


def steps(machine, films):
    """The figure of each."""
    begun = time.monotonic()
    server = Server(machine, films)
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
    """All active, none failed, and little that they are exposed to."""
    machine.run(f"systemctl is-active {' '.join(UNITS)}")
    failed = machine.run("systemctl --failed --no-legend --plain")
    expect(not failed.strip(), f"failed units: {failed}")
    exposed = machine.run("systemd-analyze security --no-pager | grep sallyport")
    figures = dict(re.findall(r"sallyport-(\w+)\.service +([\d.]+)", exposed))
    expect(len(figures) == 3 and all(float(figure) <= 1.5 for figure in figures.values()), f"exposed: {exposed}")
    return "4 units active, none failed, exposed " + ", ".join(f"{name} {figure}" for name, figure in figures.items())


def one_download(server):
    """Without a default route, which this machine has none of by itself."""
    expect(no_route(server), "there is a default route")
    id_ = server.order(LONG, "first")
    took = server.until_completed([id_])
    return f"a download without a default route in {took:.0f} s, {server.check_files([id_])} bytes as the origin has them"


def no_route(server):
    return not server.machine.run("ip -4 route show default").strip()


# What is done to the gateway, and how to see that it is under way.
WAYS = {
    "reload": ("systemctl reload sallyport-gateway", "true"),
    "SIGUSR2": ("systemctl kill --kill-whom=main -s USR2 sallyport-gateway", '[ "$(main)" != "$before" ]'),
    "restart": ("systemctl restart --no-block sallyport-gateway", "systemctl is-active sallyport-gateway | grep -q deactivating"),
}
MAIN = "main() { systemctl show -P MainPID sallyport-gateway; }"
# Not for ever.
UNTIL, PAUSE = "left=600; until", "sleep 0.2; left=$((left - 1)); [ $left -gt 0 ]"


def under_a_stream(server, name):
    """A stream goes on to its end, and whoever comes meanwhile is served."""
    id_ = next(id_ for id_, task in server.tasks().items() if task["url"].endswith(LONG))
    (way, sign), wanted = WAYS[name], (server.films / LONG).read_bytes()
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
    expect(stream.body == wanted, f"{name}: the stream was cut: {len(stream.body)} of {len(wanted)}")
    expect(set(answers) == {200}, f"{name}: others met {set(answers)}")
    kept = "=" if name == "reload" else "!="
    server.machine.run(f'{MAIN}; [ "$(main)" {kept} "$(cat /run/before)" ]')
    return f"{name}: a stream of {len(wanted)} bytes whole, {len(answers)} new connections served, the slowest in {asking.slowest:.1f} s"


class Stream(threading.Thread):
    """Reads an answer so slowly that most of it is still to come, until it is told to hasten."""

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
            pass  # The body tells.
        finally:
            connection.close()


def restarts(server):
    """Six in a row by systemd, and six by ends that nobody asked for."""
    server.machine.run("for i in 1 2 3 4 5 6; do systemctl restart sallyport-gateway; done")
    server.until_ready()
    for _ in range(6):
        server.machine.run("systemctl kill -s KILL --kill-whom=main sallyport-gateway sallyport-worker sallyport-egress || true")
        time.sleep(0.5)
    back = server.until_ready()
    server.machine.run(f"systemctl is-active {' '.join(UNITS)}")
    return f"12 quick restarts: the ports are open, served again {back:.0f} s after the last"


def reboot(server):
    """Everything comes up by itself, and downloads when a default route has come later."""
    ids = [id_ for id_, task in server.tasks().items() if task["status"] == "completed"]
    took, ready = server.machine.reboot(), server.until_ready()
    expect(no_route(server), "there is a default route")
    figure = units(server.machine)
    stops = server.machine.run("journalctl -b -1 -o cat -u 'sallyport-*' | grep -E 'Stopped sallyport-w|Stopping sallyport-e' | tail -n 2")
    expect(stops.startswith("Stopped"), f"the egress guard stops before the worker: {stops}")
    server.check_files(ids)
    server.machine.run("ip route add default via 10.0.2.2")
    new = server.order("film0.mp4", "rebooted")
    server.until_completed([new])
    server.check_files([new])
    return f"reboot {took:.0f} s, served {ready:.0f} s later: {figure}; {len(ids)} file as before, and a new one with a default route"


def power_cut(server, seconds):
    """While keys are made and films come; afterwards everything that was confirmed is there."""
    finished = [id_ for id_, task in server.tasks().items() if task["status"] == "completed"]
    keys = Keys(server.machine)
    keys.start()
    ordered = [server.order(name, f"cut{seconds}-{number}") for number, name in enumerate(ORDERS)]
    states = until_coming(server, ordered)
    time.sleep(seconds)
    server.machine.power_cut()
    keys.join(60)
    boot, ready = server.machine.boot(), server.until_ready()
    refused = [key for key in keys.given if server.ask("/api/downloads", key=key)[0] != 200]
    expect(keys.given and not refused, f"{len(refused)} of {len(keys.given)} keys that were given out do not open")
    took = server.until_completed(ordered + finished)
    bytes_ = server.check_files(ordered + finished)
    units(server.machine)
    return (
        f"power cut with {', '.join(states)}: boot {boot:.0f} s, served {ready:.0f} s later; {len(keys.given)} of {len(keys.given)} "
        f"keys open, {len(ordered)} of {len(ordered)} orders are there and done {took:.0f} s later, "
        f"{len(ordered + finished)} files of {bytes_} bytes equal, and no thumbnail is empty"
    )


def until_coming(server, ids, patience=600):
    """The states of downloads once the first of a long film is on its way."""
    deadline = time.monotonic() + patience
    while True:
        tasks = [server.tasks()[id_] for id_ in ids]
        if any(task["status"] == "downloading" and task["downloaded_bytes"] > 1 << 20 for task in tasks):
            return [task["status"] for task in tasks]
        expect(time.monotonic() < deadline, f"no download begins: {tasks}\n{server.journal()}")
        time.sleep(1)


class Keys(threading.Thread):
    """Makes one key after the other; those that the command has printed whole are given out."""

    def __init__(self, machine):
        super().__init__(daemon=True)
        loop = f"while runuser -u sallyport -- sallyport key create --json --config {CONFIG}; do :; done"
        self.making, self.given = machine.start(loop), []

    def run(self):
        self.given = re.findall(r'"(sp_[^"]+)"', self.making.stdout.read())
