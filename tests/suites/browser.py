"""Chromium's own verdicts: which pages may read what, and whether a video plays."""

import hashlib
import http.server
import json
import os
import queue
import shutil
import ssl
import subprocess
import tempfile
import threading
import urllib.request
from pathlib import Path
from urllib.parse import quote

from instance import EXTENSION, free_ports, program, run, run_any
from upstream import PAGES, Application
from verdict import Skipped, expect

SWITCHES = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-extensions --mute-audio "
    "--autoplay-policy=no-user-gesture-required"
).split()


class Reports(http.server.SimpleHTTPRequestHandler):
    """Serves the pages and collects their reports."""

    reports: queue.Queue = queue.Queue()
    # A page created for one visit, at /made.html.
    made = b""

    def __init__(self, *args):
        super().__init__(*args, directory=PAGES)

    def do_GET(self):
        if self.path != "/made.html":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.made)))
        self.end_headers()
        self.wfile.write(self.made)

    def do_POST(self):
        self.reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Pages:
    """A separate web site over TLS with two names: one that the gateway's policy allows to read, and one that it does not."""

    def __init__(self, folder):
        self.port = free_ports(1)[0]
        self.allowed, self.foreign = f"https://app.localhost:{self.port}", f"https://evil.localhost:{self.port}"
        cert, key = folder / "pages.pem", folder / "pages.key"
        subject = ["-subj", "/CN=pages", "-addext", "subjectAltName=DNS:app.localhost,DNS:evil.localhost"]
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        run(["openssl", "req", "-x509", *curve, "-nodes", "-keyout", key, "-out", cert, "-days", "2", *subject])
        self.cert = cert
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Reports)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()


def key_hash(cert):
    """Returns the hash of a certificate's key for --ignore-certificate-errors-spki-list."""
    key = run(["openssl", "x509", "-in", cert, "-noout", "-pubkey"]).stdout
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-outform", "DER"], input=key.encode(), capture_output=True, check=True
    )
    digest = subprocess.run(
        ["openssl", "base64", "-A"], input=hashlib.sha256(der.stdout).digest(), capture_output=True, check=True
    )
    return digest.stdout.decode()


def visit(url, certs, reports, seconds=60, extension=None, switches=()):
    """Opens a page, optionally with the extension in that folder; returns its report."""
    while not reports.empty():
        reports.get()
    trusted = ",".join(key_hash(cert) for cert in certs)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, tempfile.TemporaryFile("w+") as log:
        switches = [*SWITCHES, *switches, f"--ignore-certificate-errors-spki-list={trusted}", f"--user-data-dir={profile}"]
        if extension:
            switches.remove("--disable-extensions")
            switches += [f"--disable-extensions-except={extension}", f"--load-extension={extension}"]
        # With a port for a debugger, it stays open until it is terminated.
        chromium = subprocess.Popen(
            [program("chromium"), *switches, "--remote-debugging-port=0", url], stdout=log, stderr=log, text=True
        )
        try:
            return reports.get(timeout=seconds)
        except queue.Empty:
            log.seek(0)
            raise TimeoutError(f"the page reported nothing: {log.read()[-2000:]}") from None
        finally:
            chromium.terminate()
            chromium.wait(20)


def answer(status, range_=None):
    return {"status": status, "etag": '"e"' if range_ is None else None, "secret": None, "range": range_, "id": True}


READS = {
    "simple": answer(200),
    "with cookies": answer(200),
    "preflighted": {**answer(200), "etag": None},
    "preflighted, with cookies": {**answer(200), "etag": None},
    "with a key": answer(200),
    "a range": answer(206, "bytes 1-2/67108864"),
    "a field that is not allowed": "blocked",
    "a method that is not allowed": "blocked",
    "a route without CORS": "blocked",
    "a POST without a preflight": "sent",
    "a WebSocket": "open",
}
READS_NOTHING = {name: "sent" if verdict == "sent" else "blocked" for name, verdict in READS.items()}


def cors(gateways, _quick):
    gateway = gateways("intermediate")
    verdicts = 0
    for origin, expected in ((gateway.pages.allowed, READS), (gateway.pages.foreign, READS_NOTHING)):
        Application.seen.clear()
        url = f"{origin}/cors.html?gateway={quote(gateway.url)}&key={gateway.key}"
        seen = visit(url, [gateway.pages.cert, gateway.certificate], Reports.reports)
        for who, page in (("own", expected), ("nobody", READS_NOTHING)):
            wrong = {name: seen[who][name] for name in page if seen[who][name] != page[name]}
            expect(not wrong, f"{origin}, {who}: {wrong}")
            verdicts += len(page)
        # A page cannot read the response to such a POST; what counts is that the application never receives it.
        expect("POST /open/csrf" not in Application.seen, f"{origin} changed something by a POST")
        changed = [line for line in Application.seen if line.startswith("PUT")]
        expect(len(changed) == (2 if expected is READS else 0), f"{origin}: {changed}")
    version = run_any([program("chromium"), "--version"]).strip()
    return f"{verdicts} of {verdicts} verdicts of {version.split(' built')[0]} as expected"


def forms(gateways, _quick):
    """Forms of the application's own pages arrive with either referrer policy; forms of other sites do not."""
    gateway = gateways("intermediate")
    own, certs = f"{gateway.url}/open/forms.html", [gateway.pages.cert, gateway.certificate]
    foreign = f"{gateway.pages.foreign}/forms.html?gateway={quote(gateway.url)}&label="
    cases = {
        "default": (f"{own}?label=default", Application.reports, True),
        "no-referrer": (f"{own}?label=no-referrer&referrer=no-referrer", Application.reports, True),
        "sandboxed": (f"{own}?label=sandboxed&sandbox=1", Application.reports, False),
        "foreign": (f"{foreign}foreign", Reports.reports, False),
        "foreign-sandboxed": (f"{foreign}foreign-sandboxed&sandbox=1", Reports.reports, False),
    }
    for label, (url, reports, arrives) in cases.items():
        Application.seen.clear()
        expect(visit(url, certs, reports) == {"posted": label}, f"{label}: unexpected report")
        arrived = f"POST /open/posted-{label}" in Application.seen
        expect(arrived == arrives, f"{label}: {'it arrived' if arrived else 'it did not arrive'}")
    return f"{len(cases)} of {len(cases)} forms as expected: {', '.join(cases)}"


# Public keys of extensions, and the identifiers that browsers derive from them.
EXTENSIONS = {
    EXTENSION: (
        "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEApI/mN+TOwEYmv7D7YkhuPQKIGiyDGRzl6NALCCTD9oQGn0xHG0pOmf2e"
        "PlNV4NMY0GHv8pOmrfYIddHYQ82ZWHqyLcqBHmNdrI15xC8+kbM8ZrOScDwSPqcbAcNAqqgdrFrO9z/SIxLGL0i3daVNYVyzfDu6"
        "vjCWXTkgDwjdNwxIJdXgGnaoOazrVJR7sULk9Fx2eZKcFIHLpawasxUi4MZrAoTmvg8+B78lEq1jF6DpZkTDEZ/Gjshvct3Oolqe"
        "OD6T1vUeBiJGDecGgkiFc1OvNOVH2lyK2n3NNk/CBOlKUGO7ryJlRnT3GLLZEvJQceHxuTqXhtEhVPP2Uq0FbQIDAQAB"
    ),
    "dnpipnchfmlebnhafkmfahfnjkapaine": (
        "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAoyXmvgHl040oNrZzKYBvFWH6dem0vLDovv/pxJPH+2A8HMF9PV9J2ITS"
        "yzy1ATTWsQ7Gh6sMenliiepXeCAz5r+XkLi2eyDZZ5m+mVZWmkExX9JE+X5XeDtKP6Vq6rGNsuDCElWxLh/i+yMVIrrAtXy6SnT0"
        "/xXqlzoSLA5Adu5ufk8cDMbdPPnsVIh1DOFFV32M/3/ZC2TL4CHBwFTf5vK+9r9PBnilT0EgZcd3+0X07KrojnmDcOr9hUb7iLps"
        "aqDhK7ycYxiKf1bSnJQfcLsqi84UBHxaqmipqjtrohRFiqIEVVx5W5RyWEF8N7vYskuA0JIsTHwtGzt2l6g6kQIDAQAB"
    ),
}
EXTENSION_READS = {
    "simple": 200,
    "with a key": 200,
    "preflighted": 200,
    "no such route": 404,
    "an ambiguous path": 400,
    "a route without CORS": "blocked",
    "a WebSocket": "open",
}


def extension(gateways, _quick):
    """A page of the allowed extension can read responses; a page of another extension can read nothing."""
    gateway = gateways("intermediate")
    report = f"{gateway.pages.allowed}/report"
    for identifier, key in EXTENSIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder) / "extension"
            shutil.copytree(PAGES / "extension", folder)
            worker = {"service_worker": "worker.js"}
            manifest = {"manifest_version": 3, "name": "suites", "version": "1", "key": key, "background": worker}
            (folder / "manifest.json").write_text(json.dumps(manifest))
            query = f"gateway={quote(gateway.url)}&key={gateway.key}&report={quote(report)}"
            (folder / "query.txt").write_text(query)
            seen = visit("about:blank", [gateway.pages.cert, gateway.certificate], Reports.reports, extension=folder)
        expected = EXTENSION_READS if identifier == EXTENSION else dict.fromkeys(EXTENSION_READS, "blocked")
        expect(seen == expected, f"{identifier}: {seen}")
    return f"{len(EXTENSIONS) * len(EXTENSION_READS)} verdicts on pages of two extensions as expected"


def axe(gateways, _quick):
    """Accessibility of the gateway's own page, checked by axe-core, which is inserted into a copy of the page."""
    gateway = gateways("intermediate")
    library = Path(os.environ.get("SUITES_AXE", ""))
    if not library.is_file():
        raise Skipped("axe-core is not installed")
    with urllib.request.urlopen(f"{gateway.plain}/.sallyport/trust") as page:
        text = page.read().decode()
    look = "axe.run().then((seen) => fetch('/report', { method: 'POST', body: JSON.stringify(seen) }));"
    script = f"<script>{library.read_text()}</script><script>{look}</script>"
    Reports.made = text.replace("</body>", f"{script}</body>").encode()
    expect(script.encode() in Reports.made, "the page has no end tag")
    seen = visit(f"{gateway.pages.allowed}/made.html", [gateway.pages.cert], Reports.reports)
    faults = [f"{fault['impact']}: {fault['help']}" for fault in seen["violations"]]
    expect(not faults, f"the trust page: {faults}")
    return (
        f"the trust page: {len(seen['passes'])} rules of axe-core {seen['testEngine']['version']} pass, none fails"
    )


def video(gateways, _quick):
    gateway = gateways("intermediate")
    url = f"{gateway.url}/open/player.html?media={quote(gateway.link('/media/clip.mp4'))}"
    seen = visit(url, [gateway.certificate], Application.reports)
    expect(seen.get("readyState", 0) >= 2 and seen.get("time", 0) > 5 and seen.get("width") == 320, f"{seen}")
    return f"Chromium plays a signed link and seeks to 20 s and back to 5 s of {seen['duration']:.0f} s"
