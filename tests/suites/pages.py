"""Headers of the gateway's own responses, as checked by shcheck."""

import json
import sys
from pathlib import Path

from instance import run_any
from verdict import expect

# Headers that are missing on purpose, with the reasons.
MISSING = {
    # An error is a JSON document; these headers are for pages, and for what embeds or opens others.
    "an error": {
        "Strict-Transport-Security": "never on localhost and on IP addresses, where it would make other programs unreachable",
        "Permissions-Policy": "for pages",
        "Cross-Origin-Embedder-Policy": "for pages",
        "Cross-Origin-Opener-Policy": "for pages",
        "Cross-Origin-Resource-Policy": "for pages",
    },
    "the trust page": {
        "Permissions-Policy": "nothing runs in it: its policy allows neither scripts nor frames",
        "Cross-Origin-Embedder-Policy": "it embeds nothing",
    },
}


def shcheck(gateways, _quick):
    gateway = gateways("intermediate")
    tool = Path(sys.executable).with_name("shcheck.py")
    figures = []
    for what, url in (("an error", f"{gateway.url}/nowhere"), ("the trust page", f"{gateway.plain}/.sallyport/trust")):
        output = run_any([sys.executable, tool, "-d", "-j", "-m", "GET", url])
        report = json.loads(output[output.index("{") : output.rindex("}") + 1])
        (site,) = report.values()
        missing = set(site["missing"])
        expect(missing <= MISSING[what].keys(), f"{what} lacks {sorted(missing - MISSING[what].keys())}")
        count = len(site["present"]) + len(missing)
        figures.append(f"{what}: {len(site['present'])} of {count}, not {', '.join(sorted(missing))}")
    return "; ".join(figures)
