"""One HTTP/2 connection, frame by frame, which can send what no library would send."""

import socket
import struct

from hpack import Encoder

from verdict import expect

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 1, 1, 4, 8, 0x20
NO_ERROR, PROTOCOL, INTERNAL, FLOW, TIMEOUT, CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION = range(10)
ENHANCE_YOUR_CALM = 11
WAIT = 10


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class Peer:
    """One connection, after the exchange of settings unless `shake` is false."""

    def __init__(self, gateway, path, shake=True):
        self.path, self.stream, self.buffer = path, gateway.tls("h2"), b""
        self.encoder = Encoder()
        self.stream.settimeout(WAIT)
        if shake:
            self.send(PREFACE, frame(SETTINGS, 0, 0))
            self.until(lambda f: f[0] == SETTINGS and f[1] & ACK)

    def send(self, *frames):
        self.stream.sendall(b"".join(frames))

    def fields(self, *more, method="GET", without=(), **replaced):
        pseudo = {":method": method, ":scheme": "https", ":path": self.path, ":authority": "localhost"}
        pseudo |= {f":{name}": value for name, value in replaced.items()}
        return [(n, v) for n, v in pseudo.items() if n not in without] + list(more)

    def head(self, stream, *more, flags=END_STREAM | END_HEADERS, **options):
        return frame(HEADERS, flags, stream, self.block(self.fields(*more, **options)))

    def post(self, *more):
        """Returns the head of a request whose body follows."""
        return self.head(1, *more, method="POST", flags=END_HEADERS)

    def block(self, fields):
        return self.encoder.encode(fields, huffman=False)

    def next(self):
        """Returns the next frame as (kind, flags, stream, payload), or None at the end."""
        try:
            while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
                data = self.stream.recv(65536)
                if not data:
                    return None
                self.buffer += data
        except socket.timeout:
            raise TimeoutError("received nothing") from None
        except OSError:
            return None
        end = 9 + int.from_bytes(self.buffer[:3], "big")
        whole, self.buffer = self.buffer[:end], self.buffer[end:]
        return whole[3], whole[4], int.from_bytes(whole[5:9], "big") & 0x7FFFFFFF, whole[9:]

    def until(self, wanted):
        """Returns the first frame for which `wanted` is true."""
        while (seen := self.next()) is not None:
            if wanted(seen):
                return seen
        raise ConnectionError("the connection was closed")

    def errs(self, *codes, connection):
        """Checks that the connection, or unless `connection` is true a stream, ends with one of these codes."""
        while (seen := self.next()) is not None:
            kind, _, _, payload = seen
            if kind == GOAWAY:
                code = int.from_bytes(payload[4:8], "big")
                expect(code in (*codes, PROTOCOL), f"GOAWAY with {code}")
                return
            if kind == RST_STREAM and not connection:
                code = int.from_bytes(payload, "big")
                expect(code in codes, f"RST_STREAM with {code}")
                return

    def bears(self, stream=101):
        """Checks that the connection still accepts a request."""
        self.send(self.head(stream))
        self.until(lambda f: f[0] == HEADERS and f[2] == stream)
