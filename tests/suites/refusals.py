"""Programs that people use, refused while they send: each sees the status and the body that the gateway has sent, every time."""

import json
import re
import ssl
import subprocess
from collections import namedtuple
from pathlib import Path
from urllib.parse import quote

import httpx
import requests

from browser import visit
from instance import program, run, run_any
from upstream import Application
from verdict import expect

HERE = Path(__file__).parent
# Stands for the folder where they are once they are compiled.
JAVA_CLASSES = object()
Case = namedtuple("Case", "name path status code bytes")
CASES = [
    Case("denied, small", "/guarded", 401, "not_authenticated", 30),
    Case("denied", "/guarded", 401, "not_authenticated", 500_000),
    Case("unknown", "/nowhere", 404, "no_route", 500_000),
    Case("limited", "/limited", 429, "rate_limited", 500_000),
    Case("oversized", "/small", 413, "body_too_large", 5_000_000),
]


def curl(version):
    def ask(gateway, case, times, folder):
        out, command = folder / "curl.out", [program("curl"), "-sS", version, "--cacert", gateway.authority]
        command += ["--data-binary", f"@{folder / 'upload'}", "-o", out, "-w", "%{http_code} %{errormsg}"]
        for _ in range(times):
            out.write_bytes(b"")
            status, *error = run_any([*command, gateway.url + case.path]).split()
            yield int(status), out.read_text(), " ".join(error)

    return ask


def wget(gateway, case, times, folder):
    """It shows no body of a 401, since it would ask again if it had a password."""
    command = [program("wget"), "-S", "-O", "-", "--content-on-error", "--tries=1", f"--ca-certificate={gateway.authority}"]
    command += [f"--post-file={folder / 'upload'}", gateway.url + case.path]
    for _ in range(times):
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
        statuses = re.findall(r"^\s*HTTP/1\.1 (\d+)", done.stderr, re.M)
        text = None if case.status == 401 else done.stdout
        yield int(statuses[-1]) if statuses else 0, text, "" if statuses else done.stderr


def python(client):
    """A library of Python's, over connections that it keeps."""

    def ask(gateway, case, times, _folder):
        body = b"x" * case.bytes
        with client(gateway) as session:
            for _ in range(times):
                try:
                    answer = session.post(gateway.url + case.path, data=body) if client is requests_session else session.post(
                        gateway.url + case.path, content=body
                    )
                    yield answer.status_code, answer.text, ""
                except (httpx.HTTPError, requests.RequestException) as error:
                    yield 0, "", repr(error)

    return ask


def requests_session(gateway):
    session = requests.Session()
    session.verify, session.trust_env = str(gateway.authority), False
    return session


def httpx_client(http2):
    def client(gateway):
        context = ssl.create_default_context(cafile=str(gateway.authority))
        return httpx.Client(http2=http2, verify=context, timeout=20)

    return client


def script(*command):
    """A program that is told what to ask for, how much to send and how often, and prints one JSON object for each answer."""

    def ask(gateway, case, times, folder):
        words = [program(command[0]), *command[1:], gateway.authority, gateway.url + case.path, case.bytes, times]
        words = [folder / "java" if word is JAVA_CLASSES else word for word in words]
        for line in run_any(words, stderr=subprocess.STDOUT).splitlines():
            try:
                seen = json.loads(line)
                yield seen["status"], seen["text"], seen.get("error", "")
            except (ValueError, KeyError, TypeError):
                yield 0, "", line

    return ask


def ffprobe(gateway, case, times, _folder):
    """It says which status came, and takes no body of an error. What it sends must fit its command line."""
    sent = (b"x" * min(case.bytes, 50_000)).hex()
    command = [program("ffprobe"), "-v", "warning", "-tls_verify", "1", "-ca_file", gateway.authority]
    command += ["-post_data", sent, gateway.url + case.path]
    for _ in range(times):
        text = run_any(command, stderr=subprocess.STDOUT)
        status = re.search(r"(?:HTTP error|Server returned) (\d+)", text)
        yield int(status[1]) if status else 0, None, "" if status else text


def chromium(gateway, case, times, _folder):
    query = f"path={quote(case.path)}&bytes={case.bytes}&times={times}"
    for seen in visit(f"{gateway.url}/open/refusals.html?{query}", [gateway.certificate], Application.reports, 60 + 6 * times):
        yield seen["status"], seen["text"], seen.get("error", "")


CLIENTS = {
    "curl over HTTP/1.1": curl("--http1.1"),
    "curl over HTTP/2": curl("--http2"),
    "wget": wget,
    "httpx over HTTP/1.1": python(httpx_client(False)),
    "httpx over HTTP/2": python(httpx_client(True)),
    "requests": python(requests_session),
    "node over HTTP/1.1": script("node", HERE / "refusals.mjs", "1"),
    "node over HTTP/2": script("node", HERE / "refusals.mjs", "2"),
    "Java over HTTP/1.1": script("java", "-cp", JAVA_CLASSES, "Refusals", "1"),
    "Java over HTTP/2": script("java", "-cp", JAVA_CLASSES, "Refusals", "2"),
    "ffprobe": ffprobe,
    "Chromium": chromium,
}


def judge(case, status, text, error):
    """What is wrong with one answer, as its client saw it; None where nothing is. Its id, where the client shows bodies."""
    if status != case.status:
        return f"{status} {error.strip()[-200:]}", None
    if text is None:
        return None, None
    try:
        body = json.loads(text)
    except ValueError:
        return f"a body of {len(text)} bytes: {text[:80]!r} {error}", None
    return (None if body["code"] == case.code else body["code"]), body["instance"]


def refusals(gateway, times):
    """How many answers were seen as they were sent, or what was seen instead."""
    for address in ("127.0.0.1", "[::1]"):
        httpx.get(f"https://{address}:{gateway.port}/limited", headers={"Host": "localhost"}, verify=False)
    run([program("javac"), "-d", gateway.folder / "java", HERE / "Refusals.java"])
    failed, seen, whole = [], 0, {}
    for case in CASES:
        (gateway.folder / "upload").write_bytes(b"x" * case.bytes)
        for name, ask in CLIENTS.items():
            answers = list(ask(gateway, case, times, gateway.folder))
            judged = [judge(case, *answer) for answer in answers]
            wrong = [what for what, _ in judged if what]
            whole |= {id_: len(answer[1].encode()) for answer, (_, id_) in zip(answers, judged) if id_}
            seen += len(answers) - len(wrong)
            if wrong or len(answers) != times:
                failed.append(f"{name}, {case.name}: {len(wrong)} of {len(answers)}, such as {wrong[:1]}")
    expect(not failed, "refused while they send:\n  " + "\n  ".join(failed))
    logged = {}
    for line in (gateway.folder / "data" / "access.log").read_text().splitlines():
        entry = json.loads(line)
        logged[entry.get("request_id")] = entry.get("bytes_out")
    short = [id_ for id_, length in whole.items() if logged.get(id_, length) != length]
    expect(not short, f"{len(short)} bodies are not as long as they were when they were sent")
    return f"{seen} of {len(CASES) * len(CLIENTS) * times} refusals seen as sent by {', '.join(CLIENTS)}"
