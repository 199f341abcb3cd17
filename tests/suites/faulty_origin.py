"""A slow media server with occasional faults: resets, errors, and responses that end early or stall."""

import http.server
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

PIECE = 16 << 10
# Closes immediately, with a reset (SO_LINGER).
RESET = struct.pack("ii", 1, 0)
FAULTS = ("reset", "cut", "stall", "500", "503")
TYPES = {"mp4": "video/mp4", "m3u8": "application/vnd.apple.mpegurl", "mpd": "application/dash+xml", "ts": "video/mp2t"}


class Origin(http.server.ThreadingHTTPServer):
    """Serves the files of `folder` under `/ANYTHING/NAME`, at `rate` for each connection, and a `share` of all responses with a fault."""

    daemon_threads, request_queue_size = True, 256

    def __init__(self, folder, rate, stall, seed, port=0):
        super().__init__(("127.0.0.1", port), Answer)
        self.folder, self.rate, self.stall, self.share = folder, rate, stall, 0.0
        self.chance, self.lock, self.counts = random.Random(seed), threading.Lock(), Counter()
        self.address = f"127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def fault(self):
        """Returns the fault of this response, or None."""
        with self.lock:
            self.counts["answers"] += 1
            fault = self.chance.choice(FAULTS) if self.chance.random() < self.share else None
            self.counts[fault] += 1
            return fault

    def shutdown_request(self, request):
        """Closes without a shutdown, which would come before a reset."""
        self.close_request(request)

    def handle_error(self, *_):
        """Ignores clients that were killed, which this server is for."""


class Answer(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        path = self.server.folder / self.path.rsplit("/", 1)[-1]
        if not path.is_file():
            return self.fail(404)
        fault, length = self.server.fault(), path.stat().st_size
        if fault in ("500", "503"):
            return self.fail(int(fault))
        first, last, status = 0, length - 1, 200
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last, status = int(asked[1]), min(int(asked[2] or last), last), 206
            if first >= length:
                return self.fail(416)
        self.send_response(status)
        self.send_header("Content-Type", TYPES.get(path.suffix[1:], "application/octet-stream"))
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{length}")
        self.end_headers()
        if body:
            self.send_body(path, first, last, fault)

    def send_body(self, path, first, last, fault):
        """Sends the body, or a part of it if there is a fault."""
        wrong_at = first + self.server.chance.randrange(last - first + 1)
        with path.open("rb") as file:
            file.seek(first)
            while first <= last:
                if fault and first + PIECE > wrong_at:
                    return self.go_wrong(fault)
                piece = file.read(min(PIECE, last - first + 1))
                self.wfile.write(piece)
                first += len(piece)
                time.sleep(len(piece) / self.server.rate)

    def go_wrong(self, fault):
        """Stops sending."""
        self.close_connection = True
        if fault == "stall":
            time.sleep(self.server.stall)
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def fail(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if status == 503:
            self.send_header("Retry-After", "1")
        self.end_headers()

    def log_message(self, *_):
        """Logs nothing; the counts are enough."""


def make_media(folder, seconds):
    """Creates files of several lengths, two of them in segments and two with separate video and audio; returns their names."""
    for number, length in enumerate(seconds):
        pattern = f"testsrc2=size=640x360:rate=25:duration={length}"
        source = ["-f", "lavfi", "-i", pattern, "-f", "lavfi", "-i", f"sine=frequency={300 + number}:duration={length}"]
        codec = ["-c:v", "libx264", "-preset", "ultrafast", "-b:v", "1M", "-g", "50", "-pix_fmt", "yuv420p", "-c:a", "aac"]
        encode(folder, [*source, *codec, "-movflags", "+faststart", f"video{number}.mp4"])
    for number in (0, 1):
        segments = ["-hls_time", "2", "-hls_list_size", "0", "-hls_segment_filename", f"hls{number}-%03d.ts"]
        encode(folder, ["-i", f"video{number}.mp4", "-c", "copy", "-f", "hls", *segments, f"hls{number}.m3u8"])
        names = ["-init_seg_name", f"dash{number}-$RepresentationID$.mp4"]
        names += ["-media_seg_name", f"dash{number}-$RepresentationID$-$Number$.m4s"]
        apart = ["-map", "0:v", "-map", "0:a", "-c", "copy", "-f", "dash", "-seg_duration", "2", "-use_template", "1"]
        encode(folder, ["-i", f"video{number}.mp4", *apart, *names, f"dash{number}.mpd"])
    return [path.name for path in folder.iterdir() if path.match("video*.mp4") or path.suffix in (".m3u8", ".mpd")]


def encode(folder, args):
    subprocess.run(["ffmpeg", "-v", "error", *args], cwd=folder, check=True)


# Run directly with FOLDER PORT RATE, without faults.
if __name__ == "__main__":
    Origin(Path(sys.argv[1]), int(sys.argv[3]), 0, seed=1, port=int(sys.argv[2]))
    threading.Event().wait()
