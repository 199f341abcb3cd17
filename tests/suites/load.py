"""Slow clients and overload: regular requests succeed at the same time, and memory use returns to its previous level."""

import re
import subprocess
import threading
import time

from instance import program, run_any
from verdict import expect

# Memory that open connections may use, in MiB: about 20 KiB each, and the data in flight.
FOR_EACH_CONNECTION = 0.06
BASE = 64

MODES = {
    "slow heads": ["-H", "-p", "3"],
    "slow bodies": ["-B", "-s", "8192", "-p", "3"],
    "ranges": ["-R", "-p", "3"],
    "slow reads": ["-X", "-w", "10", "-y", "20", "-n", "5", "-z", "32", "-p", "3"],
}


class Honest(threading.Thread):
    """A client that makes `count` requests, each over a new connection."""

    def __init__(self, gateway, count):
        super().__init__(daemon=True)
        self.gateway, self.count, self.good, self.slowest = gateway, count, 0, 0.0

    def run(self):
        for _ in range(self.count):
            started = time.monotonic()
            try:
                self.good += self.gateway.lives()
            except OSError:
                pass
            self.slowest = max(self.slowest, time.monotonic() - started)


class Memory(threading.Thread):
    """Records the gateway's peak memory, in MiB."""

    def __init__(self, gateway):
        super().__init__(daemon=True)
        self.gateway, self.most, self.over = gateway, 0.0, threading.Event()

    def run(self):
        while not self.over.wait(0.1):
            self.most = max(self.most, self.gateway.resident())


def slowhttptest(gateways, quick):
    connections, requests, seconds = (300, 200, 8) if quick else (2_000, 1_000, 40)
    gateway, figures = gateways("intermediate"), []
    tool = program("slowhttptest")
    for mode, options in MODES.items():
        honest, memory = Honest(gateway, requests), Memory(gateway)
        before = gateway.resident()
        numbers = ["-c", connections, "-r", connections // 4, "-i", "10", "-l", seconds]
        attack = [tool, *options, *numbers, "-u", f"{gateway.url}/open/attack"]
        attack = subprocess.Popen([str(a) for a in attack], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        time.sleep(2)  # the attack has opened its connections
        memory.start()
        honest.start()
        output = re.sub(r"\x1b\[[\d;]*\w", "", attack.communicate()[0])
        honest.join()
        memory.over.set()
        counts = re.findall(r"connected: +(\d+)\s+error: +\d+\s+closed: +(\d+)", output)
        opened = max((int(open_) + int(closed) for open_, closed in counts), default=0)
        # Connections that open and close between two samples are not counted.
        over = "No open connections left" in output
        expect(over or opened >= connections * 0.9, f"{mode}: {opened} of {connections} connections were opened")
        expect(honest.good == requests, f"{mode}: {honest.good} of {requests} regular requests succeeded")
        bound = before + BASE + connections * FOR_EACH_CONNECTION
        expect(memory.most < bound, f"{mode}: {memory.most:.0f} MiB, {before:.0f} before")
        ended, how = re.search(r"ended on (\d+)\w+ second\s+Exit status: *(.+)", output).groups()
        good = f"{requests} of {requests}, slowest {honest.slowest * 1e3:.0f} ms, {memory.most:.0f} MiB"
        figures.append(f"{mode}: {good}, {how.strip().lower()} after {ended} s")
    return f"{connections} connections; " + "; ".join(figures)


def flood(gateways, quick):
    """Runs h2load and wrk at full speed on routes that forward, deny and rate limit."""
    gateway, seconds, figures = gateways("intermediate"), 2 if quick else 15, []
    h2load, wrk = program("h2load"), program("wrk")
    run_any([wrk, "-t1", "-c64", "-d2s", f"{gateway.url}/open/a"])
    before = gateway.resident()
    for path, wanted in (("open/a", 2), ("guarded", 4), ("limited", 4), ("nowhere", 4)):
        url = f"{gateway.url}/{path}"
        output = run_any([h2load, "-c", 50, "-m", 20, "-t", 1, "-D", seconds, url])
        answers = dict((int(k), int(n)) for n, k in re.findall(r"(\d+) ([2-5])xx", output))
        others = sum(n for k, n in answers.items() if k != wanted)
        expect(answers.get(wanted, 0) > 100 and others <= 1, f"h2load {path}: {output}")
        output = run_any([wrk, "-t1", "-c100", "--timeout", "10s", f"-d{seconds}s", url])
        rate = re.search(r"Requests/sec: +([\d.]+)", output)
        expect(rate and "Socket errors" not in output, f"wrk {path}: {output}")
        figures.append(f"{path} {sum(answers.values()) // seconds}/s and {float(rate[1]):.0f}/s")
    after = gateway.resident()
    expect(gateway.lives(), "the gateway no longer responds")
    expect(after < before + 32, f"{before:.0f} MiB before, {after:.0f} MiB after")
    return f"h2load and wrk: {', '.join(figures)}; {before:.0f} MiB before, {after:.0f} after"
