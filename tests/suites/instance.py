"""A gateway for the suites: created by `init`, started, inspected and stopped."""

import contextlib
import json
import random
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

import upstream
from verdict import Skipped, expect

HERE = Path(__file__).parent
# The only browser extension that the policy allows to read.
EXTENSION = "mplpknhglinkhkdnhcfhbifegadnjpec"


class Running:
    """A folder created by `init`, and a role that runs in it once it is started."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.port, self.plain_port, self.admin_port = free_ports(3)
        self.config = folder / "config.toml"
        self.url = f"https://localhost:{self.port}"
        self.plain = f"http://127.0.0.1:{self.plain_port}"
        self.authority, self.certificate = folder / "certs" / "ca.pem", folder / "certs" / "server.pem"
        self.key = json.loads(run([binary, "init", "--json", "--dir", folder]).stdout)["api_key"]

    def listeners(self):
        """Returns the beginning of a configuration."""
        return f"""
[gateway]
listen = ["127.0.0.1:{self.port}", "[::1]:{self.port}"]
http_listen = ["127.0.0.1:{self.plain_port}"]
admin_listen = "127.0.0.1:{self.admin_port}"
"""

    def start(self, role):
        """Starts a role and waits until it listens."""
        self.stderr = (self.folder / "stderr").open("w")
        self.process = subprocess.Popen([self.binary, role, "--config", self.config], stderr=self.stderr)
        deadline = time.monotonic() + 20
        while not accepts(self.port):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"{role} did not start: {(self.folder / 'stderr').read_text()}")
            time.sleep(0.05)

    def command(self, *args):
        """Returns what a command on this instance prints."""
        return json.loads(run([self.binary, *args, "--json", "--config", self.config]).stdout)

    def tls(self, alpn=None):
        """Opens a TLS connection."""
        context = ssl.create_default_context(cafile=str(self.authority))
        if alpn:
            context.set_alpn_protocols([alpn])
        return context.wrap_socket(socket.create_connection(("127.0.0.1", self.port), 10), server_hostname="localhost")

    def get(self, path):
        """Returns what a client with the key receives."""
        request = urllib.request.Request(self.url + path, headers={"X-API-Key": self.key})
        with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=str(self.authority))) as answer:
            return answer.read()

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.stderr.close()


class Instance(Running):
    """A running gateway in front of the suites' application; `pages` are other sites, `media` is a folder of files."""

    def __init__(self, binary, folder, profile, pages, media):
        super().__init__(binary, folder)
        self.pages, self.media = pages, media
        shutil.copy(HERE / "policy.toml", folder / "policies" / "suites.toml")
        self.config.write_text(f"""{self.listeners()}
max_connections_per_client = 12000
max_requests_per_client = 5000
[tls]
profile = "{profile}"
[[app]]
name = "websocket"
policy = "suites"
prefix = "/ws"
upstream = "{upstream.start_websocket()}"
cors_origins = ["{pages.allowed}", "chrome-extension://{EXTENSION}"]
[[app]]
name = "suites"
policy = "suites"
upstream = "{upstream.start(media)}"
cors_origins = ["{pages.allowed}", "chrome-extension://{EXTENSION}"]
""")
        self.start("gateway")

    def link(self, path):
        """Returns a signed link."""
        return self.command("link", "create", path)["url"]

    def resident(self):
        """Returns the resident memory of the gateway, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def lives(self):
        """Returns whether a valid request succeeds."""
        with self.tls() as stream:
            stream.sendall(b"GET /open/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return b"".join(iter(lambda: stream.recv(65536), b"")).startswith(b"HTTP/1.1 200 ")


def run(command, **options):
    """Runs a program, which must succeed; its output is text."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **options)
    expect(done.returncode == 0, f"{command[0]} failed with status {done.returncode}: {done.stderr.strip() or done.stdout}")
    return done


def free_ports(count):
    """Returns unused ports on loopback, below the range that the kernel uses for outgoing connections."""
    ports = set()
    while len(ports) < count:
        port = random.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.add(port)
    return list(ports)


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def run_any(command, **options):
    """Runs a program, whatever its exit status, and returns its output."""
    command = [str(c) for c in command]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "errors": "replace"} | options
    return subprocess.run(command, text=True, check=False, **options).stdout


def program(name):
    """Returns the path of a program, or skips the suite if it is not installed."""
    if path := shutil.which(name):
        return path
    raise Skipped(f"{name} is not installed")
