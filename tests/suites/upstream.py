"""The application behind the gateway: files with ranges, echoes, pages, and WebSockets on a separate port."""

import asyncio
import http.server
import json
import mimetypes
import queue
import re
import threading
from pathlib import Path

import websockets

PAGES = Path(__file__).parent / "pages"


class Application(http.server.BaseHTTPRequestHandler):
    """Its response depends only on the last part of the path."""

    protocol_version = "HTTP/1.1"
    # Head and body are written separately; otherwise the body would wait for 40 ms.
    disable_nagle_algorithm = True
    media = Path()
    seen: list[str] = []
    reports: queue.Queue = queue.Queue()

    def do_GET(self):
        name = self.path.split("?")[0].rsplit("/", 1)[-1]
        self.seen.append(f"{self.command} {self.path}")
        for folder in (self.media, PAGES):
            # No file name is longer, and the look-up of a longer one is an error.
            if 0 < len(name) < 256 and (folder / name).is_file():
                return self.send_file(folder / name)
        self.send_answer(200, b"plain", {"Content-Type": "text/plain", "X-Secret": "s", "ETag": '"e"'})

    do_HEAD = do_GET

    def do_POST(self):
        self.seen.append(f"{self.command} {self.path}")
        body = self.read_body()
        if self.path.endswith("/report"):
            self.reports.put(json.loads(body))
        self.send_answer(200, body, {"Content-Type": "application/octet-stream"})

    do_PUT = do_POST

    def read_body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def send_file(self, path):
        length = path.stat().st_size
        first, last, status = 0, length - 1, 200
        # A page may request a referrer policy.
        policy = re.search(r"[?&]referrer=([a-z-]+)", self.path)
        fields = {"Content-Type": mimetypes.guess_type(path)[0] or "application/octet-stream", "Accept-Ranges": "bytes"}
        if policy:
            fields["Referrer-Policy"] = policy[1]
        if asked := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            first = int(asked[1]) if asked[1] else length - int(asked[2])
            last = min(int(asked[2]), last) if asked[1] and asked[2] else last
            status = 206 if first <= last else 416
            fields["Content-Range"] = f"bytes {first}-{last}/{length}" if status == 206 else f"bytes */{length}"
        with path.open("rb") as file:
            file.seek(first)
            body = file.read(last + 1 - first) if status != 416 else b""
        self.send_answer(status, body, fields)

    def send_answer(self, status, body, fields):
        self.send_response(status)
        for name, value in {**fields, "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True

    def handle_error(self, *_):
        """Ignores clients that disconnect early, which some suites do on purpose."""


def start(media):
    """Starts the application; returns its address."""
    Application.media = media
    server = Server(("127.0.0.1", 0), Application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"127.0.0.1:{server.server_address[1]}"


async def echo(connection):
    """Sends every message back, and closes with the code that a message `close N` requests."""
    try:
        async for message in connection:
            if isinstance(message, str) and message.startswith("close "):
                return await connection.close(int(message.split()[1]), "as requested")
            await connection.send(message)
    except websockets.ConnectionClosed:
        """Ignores how the client closed the connection."""


def start_websocket():
    """Starts the WebSocket server; returns its address."""
    address = []
    ready = threading.Event()

    async def serve():
        async with websockets.serve(echo, "127.0.0.1", 0, max_size=64 << 20) as server:
            address.append(server.sockets[0].getsockname()[1])
            ready.set()
            await asyncio.get_running_loop().create_future()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    ready.wait(10)
    return f"127.0.0.1:{address[0]}"
