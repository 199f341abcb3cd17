"""Headers of the gateway's own answers, as shcheck sees them."""

import json
import sys
from pathlib import Path

from instance import run_any
from verdict import expect

# Which of shcheck's headers an error of the gateway's has, on `localhost`, and why the others are not there.
MISSING = {
    "Strict-Transport-Security": "never on localhost and on addresses, where it would shut out other programs",
    # An error is a JSON document; these are for pages, and what embeds or opens others.
    "Permissions-Policy": "for pages",
    "Cross-Origin-Embedder-Policy": "for pages",
    "Cross-Origin-Opener-Policy": "for pages",
    "Cross-Origin-Resource-Policy": "for pages",
}


def shcheck(gateways, _quick):
    gateway = gateways("intermediate")
    tool = Path(sys.executable).with_name("shcheck.py")
    output = run_any([sys.executable, tool, "-d", "-j", "-m", "GET", f"{gateway.url}/nowhere"])
    report = json.loads(output[output.index("{") : output.rindex("}") + 1])
    (site,) = report.values()
    missing = set(site["missing"]) - MISSING.keys()
    expect(not missing, f"missing: {sorted(missing)}")
    count = len(site["present"]) + len(site["missing"])
    return f"an error: {len(site['present'])} of {count}; not: {', '.join(sorted(site['missing']))}"
