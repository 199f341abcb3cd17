"""Runs the public suites against a built gateway: one line for each, and 1 at the end where one found a fault.

usage: main.py BINARY [--quick] [--rounds N] [--clients WORD] [SUITE]…

`--rounds` is how often each client of `refusals` sends each request; `--clients` has only those do so whose names hold the word.
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
from titles import titles
from tls import sslscan, sslyze, testssl
from verdict import Skipped, Unexpected
from vm.run import vm
from websocket import websocket

SUITES = {
    s.__name__: s
    for s in (
        sslyze, sslscan, testssl, http2, websocket, cors, forms, extension, video, clients, refusals, titles, api, shcheck, axe,
        slowhttptest, flood, soak, shares, vm,
    )
}
# What takes longer than a test run should.
SLOW = {"testssl", "shares"}
# What runs only where it is named.
OPT_IN = {"vm"}


class Gateways:
    """One running gateway for each TLS profile, made when a suite asks for it."""

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
    """Its line, and whether it is as it must be."""
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
    """The value of an option, which is taken out of the words."""
    if name not in words:
        return None
    at = words.index(name)
    _, value = words[at : at + 2]
    del words[at : at + 2]
    return value


def usual(quick):
    """The suites that run unless some are named."""
    return [name for name in SUITES if name not in OPT_IN and not (quick and name in SLOW)]


def main(binary, *words):
    words = list(words)
    rounds, who = option(words, "--rounds"), option(words, "--clients")
    SUITES["refusals"] = partial(refusals, rounds=int(rounds or 0), who=who or "")
    quick = "--quick" in words
    names = [word for word in words if word != "--quick"] or usual(quick)
    if unknown := [name for name in names if name not in SUITES]:
        sys.exit(f"no suite {unknown[0]!r}; there are {', '.join(SUITES)}")
    with tempfile.TemporaryDirectory(prefix="suites.") as folder:
        gateways = Gateways(Path(binary).resolve(), Path(folder))
        try:
            passed = [judge(name, gateways, quick) for name in names]
        finally:
            gateways.stop()
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
