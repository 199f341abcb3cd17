"""The clients of refusals.py: how each of them sends refused requests, and what it sees of the response."""

import json
import re
import ssl
import subprocess
from collections import namedtuple
from pathlib import Path
from urllib.parse import quote

import httpx
import pycurl
import requests

from browser import visit
from instance import program, run, run_any
from refused_requests import BODIES
from upstream import Application

HERE = Path(__file__).parent
# Placeholder for the folder of compiled Java classes.
JAVA_CLASSES = object()
PIECE = 16 << 10
TIMEOUT = 20

# `ask(gateway, requests, times)` yields number, status, text (None if the client does not show it) and error of each response. A client
# needs a program, sends each of `bodies`, and sees the responses to all cases except those in `unseen`.
Client = namedtuple("Client", "ask needs bodies unseen", defaults=[None, [body.name for body in BODIES], []])


def one_by_one(ask):
    """Adapts a program that sends one request: `ask(gateway, request, file)` returns status, text and error."""

    def ask_all(gateway, asked, times):
        for number, request in enumerate(asked):
            file = gateway.folder / "upload"
            file.write_bytes(b"x" * request.bytes)
            for _ in range(times):
                yield number, *ask(gateway, request, file)

    return ask_all


def curl(version):
    """Waits for 100 Continue before large bodies, except streamed ones, which it sends immediately here."""

    def ask(gateway, request, file):
        out, command = gateway.folder / "curl.out", [program("curl"), "-sS", version, "--cacert", gateway.authority]
        body = ["-X", "POST", "-H", "Expect:", "-T", "-"] if request.body.streamed else ["--data-binary", f"@{file}"]
        out.write_bytes(b"")
        with file.open("rb") as stdin:
            said = run_any([*command, *body, "-o", out, "-w", "%{http_code} %{errormsg}", request.url], stdin=stdin)
        status, *error = said.split()
        return int(status), out.read_text(), " ".join(error)

    return one_by_one(ask)


def libcurl(version):
    """The current libcurl, which comes with pycurl, on persistent connections."""

    def ask_all(gateway, asked, times):
        handle = pycurl.Curl()
        for number, request in enumerate(asked):
            for _ in range(times):
                yield number, *ask(handle, gateway, request)
        handle.close()

    def ask(handle, gateway, request):
        answer, left = bytearray(), [request.bytes]

        def read(most):
            size = min(most, left[0])
            left[0] -= size
            return b"x" * size

        handle.reset()
        for option, value in {
            pycurl.URL: request.url,
            pycurl.CAINFO: str(gateway.authority),
            pycurl.HTTP_VERSION: version,
            pycurl.POST: 1,
            pycurl.READFUNCTION: read,
            pycurl.WRITEFUNCTION: answer.extend,
            pycurl.TIMEOUT: TIMEOUT,
            pycurl.POSTFIELDSIZE_LARGE: -1 if request.body.streamed else request.bytes,
            pycurl.HTTPHEADER: ["Expect:", "Transfer-Encoding: chunked"] if request.body.streamed else [],
        }.items():
            handle.setopt(option, value)
        try:
            handle.perform()
            error = ""
        except pycurl.error as what:
            error = str(what)
        return (0 if error else handle.getinfo(pycurl.RESPONSE_CODE)), answer.decode(), error

    return ask_all


def wget(gateway, request, file):
    """Shows no body of a 401, since wget would retry if it had a password."""
    command = [program("wget"), "-S", "-O", "-", "--content-on-error", "--tries=1", f"--ca-certificate={gateway.authority}"]
    command = [str(word) for word in (*command, f"--post-file={file}", request.url)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    statuses = re.findall(r"^\s*HTTP/1\.1 (\d+)", done.stderr, re.M)
    text = None if request.case.status == 401 else done.stdout
    return (int(statuses[-1]), text, "") if statuses else (0, text, done.stderr)


def python(session, body_argument):
    """A Python library, on persistent connections."""

    def ask_all(gateway, asked, times):
        with session(gateway) as client:
            for number, request in enumerate(asked):
                for _ in range(times):
                    try:
                        answer = client.post(request.url, **{body_argument: body_of(request)})
                        yield number, answer.status_code, answer.text, ""
                    except (httpx.HTTPError, requests.RequestException) as error:
                        yield number, 0, "", repr(error)

    return ask_all


def body_of(request):
    if not request.body.streamed:
        return b"x" * request.bytes
    return (b"x" * min(PIECE, request.bytes - sent) for sent in range(0, request.bytes, PIECE))


def requests_session(gateway):
    session = requests.Session()
    session.verify, session.trust_env = str(gateway.authority), False
    return session


def httpx_client(http2):
    def client(gateway):
        context = ssl.create_default_context(cafile=str(gateway.authority))
        return httpx.Client(http2=http2, verify=context, timeout=TIMEOUT)

    return client


def script(*command):
    """A program that receives what to send and how often as arguments, and prints one JSON object for each response."""

    def ask_all(gateway, asked, times):
        words = json.dumps([request.words() for request in asked])
        command_line = [program(command[0]), *command[1:], gateway.authority, times, words]
        if JAVA_CLASSES in command_line:
            run([program("javac"), "-d", gateway.folder / "java", HERE / "Refusals.java"])
        command_line = [gateway.folder / "java" if word is JAVA_CLASSES else word for word in command_line]
        for line in run_any(command_line, stderr=subprocess.STDOUT).splitlines():
            try:
                seen = json.loads(line)
                yield seen["number"], seen["status"], seen["text"], seen.get("error", "")
            except (ValueError, KeyError, TypeError):
                yield 0, 0, "", line

    return ask_all


def ffprobe(gateway, request, _file):
    """Reports the status, but shows no body of an error. The data must fit on its command line."""
    sent = (b"x" * min(request.bytes, 50_000)).hex()
    command = [program("ffprobe"), "-v", "warning", "-tls_verify", "1", "-ca_file", gateway.authority]
    return status_of(run_any([*command, "-post_data", sent, request.url], stderr=subprocess.STDOUT))


def ffmpeg(gateway, request, file):
    """Uploads in chunks, as ffmpeg does. It checks the status only if it waits for 100 Continue, and only before it sends."""
    command = [program("ffmpeg"), "-v", "warning", "-f", "u8", "-i", file, "-f", "u8", "-method", "POST"]
    command += ["-send_expect_100", "1", "-tls_verify", "1", "-ca_file", gateway.authority, request.url]
    return status_of(run_any(command, stderr=subprocess.STDOUT))


def status_of(said):
    status = re.search(r"(?:HTTP error|Server returned) (\d+)", said)
    return (int(status[1]), None, "") if status else (0, None, said)


def chromium(*switches):
    """Sends from a page of the gateway, all in one visit."""

    def ask_all(gateway, asked, times):
        words = quote(json.dumps([request.words() for request in asked]))
        page = f"{gateway.url}/open/refusals.html?times={times}&requests={words}"
        patience = 60 + 6 * times * len(asked)
        for seen in visit(page, [gateway.certificate], Application.reports, patience, switches=switches):
            yield seen["number"], seen["status"], seen["text"], seen.get("error", "")

    return ask_all


DECLARED = [body.name for body in BODIES if not body.streamed]
SMALL, LARGE, STREAMED = BODIES[0].name, BODIES[1].name, BODIES[3].name
NODE = HERE / "refusals.mjs"
CLIENTS = {
    "curl, HTTP/1.1": Client(curl("--http1.1"), "curl"),
    "curl, HTTP/2": Client(curl("--http2"), "curl"),
    "libcurl, HTTP/1.1": Client(libcurl(pycurl.CURL_HTTP_VERSION_1_1)),
    "libcurl, HTTP/2": Client(libcurl(pycurl.CURL_HTTP_VERSION_2TLS)),
    "wget": Client(one_by_one(wget), "wget", DECLARED),
    "httpx, HTTP/1.1": Client(python(httpx_client(False), "content")),
    "httpx, HTTP/2": Client(python(httpx_client(True), "content")),
    "requests": Client(python(requests_session, "data")),
    "node, HTTP/1.1": Client(script("node", NODE, "1"), "node"),
    "node, HTTP/2": Client(script("node", NODE, "2"), "node"),
    "Java, HTTP/1.1": Client(script("java", "-cp", JAVA_CLASSES, "Refusals", "1"), "javac"),
    "Java, HTTP/2": Client(script("java", "-cp", JAVA_CLASSES, "Refusals", "2"), "javac"),
    "ffprobe": Client(one_by_one(ffprobe), "ffprobe", [SMALL, LARGE]),
    "ffmpeg": Client(one_by_one(ffmpeg), "ffmpeg", [STREAMED], ["oversized 413"]),
    # In a page, a body can be streamed only over HTTP/2.
    "Chromium, HTTP/1.1": Client(chromium("--disable-http2"), "chromium", DECLARED),
    "Chromium, HTTP/2": Client(chromium(), "chromium"),
}
