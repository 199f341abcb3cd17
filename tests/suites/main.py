"""Runs the public suites against a built gateway: prints one line for each, and exits with 1 if one of them found a fault.

usage: main.py BINARY [--quick] [--rounds N] [--clients WORD] [SUITE]…

`--rounds` is how often each client of `refusals` sends each request; `--clients` limits them to those whose names contain WORD.
"""

import os
import subprocess
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path

from api import api
from browser import Pages, axe, cors, extension, forms, video
from clients import clients
from http2 import http2
from instance import Instance
from load import flood, slowhttptest
from pages import shcheck
from refusals import refusals
from shares import shares
from soak import soak
from stranger import stranger
from titles import titles
from tls import sslscan, sslyze, testssl
from verdict import Skipped, Unexpected
from vm.run import vm
from websocket import websocket

SUITES = {
    s.__name__: s
    for s in (
        sslyze, sslscan, testssl, http2, websocket, cors, forms, extension, video, clients, refusals, titles, api, shcheck, axe,
        slowhttptest, flood, stranger, soak, shares, vm,
    )
}
# Suites that take longer than a test run should.
SLOW = {"testssl", "shares"}
# Suites that run only if they are named.
OPT_IN = {"vm"}


class Gateways:
    """One running gateway for each TLS profile, created when a suite first asks for it."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.made = binary, folder, {}
        self.pages, self.media = Pages(folder), folder / "media"
        self.media.mkdir()
        (self.media / "big").write_bytes(os.urandom(64 << 20))
        source = ["-f", "lavfi", "-i", "testsrc=size=320x240:rate=25:duration=30"]
        codec = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "50", "-movflags", "+faststart"]
        subprocess.run(["ffmpeg", "-v", "error", *source, *codec, self.media / "clip.mp4"], check=True)

    def __call__(self, profile):
        if profile not in self.made:
            folder = self.folder / profile
            folder.mkdir()
            self.made[profile] = Instance(self.binary, folder, profile, self.pages, self.media)
        return self.made[profile]

    def stop(self):
        for gateway in self.made.values():
            gateway.stop()


def judge(name, gateways, quick):
    """Prints the suite's verdict, and returns whether it did not fail."""
    started = time.monotonic()
    try:
        verdict, figure = "PASSED", SUITES[name](gateways, quick)
    except Skipped as why:
        verdict, figure = "SKIPPED", str(why)
    except Unexpected as what:
        verdict, figure = "FAILED", str(what)
    except Exception:
        verdict, figure = "FAILED", traceback.format_exc()
    print(f"{verdict} {name} ({time.monotonic() - started:.0f} s): {figure}", flush=True)
    return verdict != "FAILED"


def option(words, name):
    """Removes an option from the words, and returns its value."""
    if name not in words:
        return None
    at = words.index(name)
    _, value = words[at : at + 2]
    del words[at : at + 2]
    return value


def usual(quick):
    """Returns the suites that run if none are named."""
    return [name for name in SUITES if name not in OPT_IN and not (quick and name in SLOW)]


def main(binary, *words):
    words = list(words)
    rounds, who = option(words, "--rounds"), option(words, "--clients")
    SUITES["refusals"] = partial(refusals, rounds=int(rounds or 0), who=who or "")
    quick = "--quick" in words
    names = [word for word in words if word != "--quick"] or usual(quick)
    if unknown := [name for name in names if name not in SUITES]:
        sys.exit(f"no suite {unknown[0]!r}; known suites: {', '.join(SUITES)}")
    with tempfile.TemporaryDirectory(prefix="suites.") as folder:
        gateways = Gateways(Path(binary).resolve(), Path(folder))
        try:
            passed = [judge(name, gateways, quick) for name in names]
        finally:
            gateways.stop()
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
