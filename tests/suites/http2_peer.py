"""One HTTP/2 connection, frame by frame, that may send what no library would."""

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
    """One connection, after the exchange of settings unless it is told otherwise."""

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
        """The head of a request whose body is still to come."""
        return self.head(1, *more, method="POST", flags=END_HEADERS)

    def block(self, fields):
        return self.encoder.encode(fields, huffman=False)

    def next(self):
        """The next frame as (kind, flags, stream, payload); None at the end."""
        try:
            while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
                data = self.stream.recv(65536)
                if not data:
                    return None
                self.buffer += data
        except socket.timeout:
            raise TimeoutError("nothing came") from None
        except OSError:
            return None
        end = 9 + int.from_bytes(self.buffer[:3], "big")
        whole, self.buffer = self.buffer[:end], self.buffer[end:]
        return whole[3], whole[4], int.from_bytes(whole[5:9], "big") & 0x7FFFFFFF, whole[9:]

    def until(self, wanted):
        """The first frame that is wanted."""
        while (seen := self.next()) is not None:
            if wanted(seen):
                return seen
        raise ConnectionError("the connection has ended")

    def errs(self, *codes, connection):
        """Whether the connection ends, or (unless only that will do) a stream, with one of these codes."""
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
        """Whether the connection still takes a request."""
        self.send(self.head(stream))
        self.until(lambda f: f[0] == HEADERS and f[2] == stream)
