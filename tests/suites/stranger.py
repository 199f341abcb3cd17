"""A stranger with every trick at once, beside the owner: no request of the owner's is refused, and a key is revoked on a full disk."""

import contextlib
import os
import random
import shutil
import socket
import ssl
import statistics
import struct
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path

import upstream
from http2_peer import ACK, PING, WINDOW_UPDATE, Peer, frame
from instance import HERE, Running
from load import Memory
from verdict import Skipped, expect

OWNER = "127.0.0.1"
# The data folder's disk, and what the log leaves of it, in MiB.
DISK, RESERVE = 64, 16
# Memory that all of it may take, in MiB.
MOST_MEMORY = 200
# What is revoked is refused within this time, in seconds.
AT_ONCE = 2


class Besieged(Running):
    """A gateway whose data folder is a small disk."""

    def __init__(self, binary, folder, media):
        folder.mkdir()
        super().__init__(binary, folder)
        shutil.copy(HERE / "policy.toml", folder / "policies" / "suites.toml")
        self.config.write_text(f"""{self.listeners()}
[log]
disk_reserve = "{RESERVE}MiB"
[[app]]
name = "suites"
policy = "suites"
upstream = "{upstream.start(media)}"
""")
        self.data = folder / "data"
        made = self.data.rename(folder / "made")
        self.data.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=700", "none", self.data], check=True)
        shutil.copytree(made, self.data, dirs_exist_ok=True)
        self.link = self.command("link", "create", "/media/clip.mp4")["url"]
        self.start("gateway")

    def resident(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def logged(self):
        """What the logs take, in MiB."""
        return sum(file.stat().st_size for file in self.data.glob("access.log*")) / 2**20

    def fill_disk(self):
        with (self.data / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(bytes(4096)):
                pass

    def dial(self, source):
        return socket.create_connection((OWNER, self.port), 10, source_address=(source, 0))

    def ask(self, request, source=OWNER):
        """The status of one request over a connection of its own."""
        context = ssl.create_default_context(cafile=str(self.authority))
        with context.wrap_socket(self.dial(source), server_hostname="localhost") as stream:
            stream.sendall(f"{request}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: stream.recv(65536), b""))
        return int(answer.split(b" ", 2)[1]) if answer else 0

    def with_key(self, key):
        return self.ask(f"GET /guarded HTTP/1.1\r\nX-API-Key: {key}")

    def stop(self):
        super().stop()
        subprocess.run(["umount", "-l", self.data], check=False)


class Door:
    """The gateway, reached from one address."""

    def __init__(self, gateway, source):
        self.gateway, self.source = gateway, source

    def tls(self, alpn):
        context = ssl.create_default_context(cafile=str(self.gateway.authority))
        context.set_alpn_protocols([alpn])
        return context.wrap_socket(self.gateway.dial(self.source), server_hostname="localhost")


def long_paths(gateway, source):
    """One long path in HPACK's table, then a byte for each request."""
    peer, path = Peer(Door(gateway, source), "/guarded"), "/" + "x" * 3_900
    for n in range(10_000):
        peer.send(peer.head(2 * n + 1, path=path))
        if n % 50 == 49:
            peer.stream.recv(1 << 16)


def control_frames(kind, flags, payload):
    def flood(gateway, source):
        peer = Peer(Door(gateway, source), "/open/a")
        peer.send(peer.head(1))
        while True:
            peer.send(*[frame(kind, flags, 0, payload)] * 500)

    return flood


def names_that_are_addresses(gateway, source):
    """Handshakes that name the server by an address, which is logged as a fault by TLS."""
    for _ in range(50):
        with gateway.dial(source) as stream:
            stream.sendall(client_hello(b"192.0.2.1"))
            stream.recv(4096)


def client_hello(name):
    """TLS 1.3, with a server name."""

    def sized(bytes_of_length, content):
        return len(content).to_bytes(bytes_of_length, "big") + content

    def extension(kind, content):
        return struct.pack(">H", kind) + sized(2, content)

    extensions = extension(0, sized(2, b"\0" + sized(2, name))) + extension(43, sized(1, b"\x03\x04"))
    extensions += extension(13, sized(2, b"\x04\x03\x08\x04")) + extension(10, sized(2, b"\x00\x1d"))
    extensions += extension(51, sized(2, b"\x00\x1d" + sized(2, os.urandom(32))))
    hello = b"\x03\x03" + os.urandom(32) + sized(1, b"") + sized(2, b"\x13\x01") + sized(1, b"\0") + sized(2, extensions)
    return b"\x16\x03\x01" + sized(2, b"\x01" + sized(3, hello))


def wrong_keys(gateway, source):
    for _ in range(5):
        gateway.ask(f"GET /guarded HTTP/1.1\r\nX-API-Key: sp_{random.randbytes(20).hex()}", source)


def unknown_paths(gateway, source):
    for _ in range(5):
        gateway.ask(f"GET /{random.randbytes(1500).hex()} HTTP/1.1", source)


def one_link(gateway, source):
    """A link of the owner's, over and over."""
    link = urllib.parse.urlsplit(gateway.link)
    for _ in range(5):
        gateway.ask(f"HEAD {link.path}?{link.query} HTTP/1.1", source)


def uploads(gateway, source):
    """Each leaves a connection to the application."""
    for _ in range(5):
        gateway.ask("POST /open/a HTTP/1.1\r\nContent-Length: 0", source)


def broken_heads(gateway, source):
    for _ in range(5):
        gateway.ask("GET /open/a HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", source)


def silence(gateway, source):
    """Connections that say nothing."""
    held = [gateway.dial(source) for _ in range(20)]
    time.sleep(5)  # the silence is the subject
    for stream in held:
        stream.close()


TRICKS = [
    long_paths, control_frames(PING, ACK, bytes(8)), control_frames(WINDOW_UPDATE, 0, b"\0\0\0\1"), names_that_are_addresses,
    wrong_keys, unknown_paths, one_link, uploads, broken_heads, silence,
]


class Stranger(threading.Thread):
    """Plays one trick again and again, each time from another address."""

    def __init__(self, gateway, trick, over):
        super().__init__(daemon=True)
        self.gateway, self.trick, self.over, self.rounds = gateway, trick, over, 0

    def run(self):
        while not self.over.is_set():
            source = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
            with contextlib.suppress(OSError, ValueError):
                self.trick(self.gateway, source)
            self.rounds += 1


def ask_as_owner(gateway, seconds):
    """How long each of the owner's requests takes; each is answered."""
    taken, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.monotonic()
        status = gateway.with_key(gateway.key)
        expect(status == 200, f"the owner's request {len(taken)} was refused with {status}")
        taken.append(time.monotonic() - started)
        time.sleep(0.02)  # the pace of the requests
    return taken


def seconds_until_refused(gateway, key):
    gateway.command("key", "revoke", key["id"])
    revoked = time.monotonic()
    while gateway.with_key(key["key"]) != 401:
        expect(time.monotonic() - revoked < AT_ONCE, "a revoked key still opens")
    return time.monotonic() - revoked


def p99(taken):
    return statistics.quantiles(taken, n=100)[98] * 1e3


def stranger(gateways, quick):
    if os.geteuid() != 0:
        raise Skipped("only root can mount a small disk")
    gateway, over = Besieged(gateways.binary, gateways.folder / "besieged", gateways.media), threading.Event()
    try:
        key = gateway.command("key", "create")
        alone = ask_as_owner(gateway, 3)
        strangers, memory = [Stranger(gateway, trick, over) for trick in TRICKS], Memory(gateway)
        for thread in (*strangers, memory):
            thread.start()
        beside = ask_as_owner(gateway, 10 if quick else 60)
        files, logged = gateway.open_files(), gateway.logged()
        gateway.fill_disk()
        refused = seconds_until_refused(gateway, key)
        ask_as_owner(gateway, 2)
        memory.over.set()
        rounds = [one.rounds for one in strangers]
        figures = f"{len(beside)} requests of the owner's and none refused, p99 {p99(alone):.0f} ms alone and {p99(beside):.0f} ms beside; "
        figures += f"{sum(rounds)} rounds of {len(TRICKS)} tricks; {memory.most:.0f} MiB and {files} open files; logs {logged:.0f} MiB; "
        figures += f"a key revoked on the full disk was refused after {refused * 1e3:.0f} ms"
        expect(all(rounds), f"a trick was never played: {rounds}")
        expect(memory.most < MOST_MEMORY and logged < DISK - RESERVE, figures)
        return figures
    finally:
        over.set()
        gateway.stop()
