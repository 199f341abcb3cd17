"""Runs the public suites against a built gateway: one line for each, and 1 at the end where one found a fault.

usage: main.py BINARY [--quick] [SUITE]…
"""

import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from api import api
from browser import Pages, axe, cors, extension, forms, video
from clients import clients
from http2 import http2
from instance import Instance
from load import flood, slowhttptest
from pages import shcheck
from shares import shares
from soak import soak
from tls import sslscan, sslyze, testssl
from verdict import Skipped, Unexpected
from websocket import websocket

SUITES = {
    s.__name__: s
    for s in (
        sslyze, sslscan, testssl, http2, websocket, cors, forms, extension, video, clients, api, shcheck, axe,
        slowhttptest, flood, soak, shares,
    )
}
# What takes longer than a test run should.
SLOW = {"testssl", "shares"}


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


def judge(suite, gateways, quick):
    """Its line, and whether it is as it must be."""
    started = time.monotonic()
    try:
        verdict, figure = "PASSED", suite(gateways, quick)
    except Skipped as why:
        verdict, figure = "SKIPPED", str(why)
    except Unexpected as what:
        verdict, figure = "FAILED", str(what)
    except Exception:
        verdict, figure = "FAILED", traceback.format_exc()
    print(f"{verdict} {suite.__name__} ({time.monotonic() - started:.0f} s): {figure}", flush=True)
    return verdict != "FAILED"


def main(binary, *words):
    quick = "--quick" in words
    names = [word for word in words if word != "--quick"] or [name for name in SUITES if not (quick and name in SLOW)]
    if unknown := [name for name in names if name not in SUITES]:
        sys.exit(f"no suite {unknown[0]!r}; there are {', '.join(SUITES)}")
    with tempfile.TemporaryDirectory(prefix="suites.") as folder:
        gateways = Gateways(Path(binary).resolve(), Path(folder))
        try:
            passed = [judge(SUITES[name], gateways, quick) for name in names]
        finally:
            gateways.stop()
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
