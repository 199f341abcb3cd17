"""The requirements of RFC 9113 for frames and heads, case by case as in h2spec."""

from http2_peer import (
    ACK,
    CANCEL,
    CLOSED,
    COMPRESSION,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PROTOCOL,
    PUSH_PROMISE,
    REFUSED,
    RST_STREAM,
    SETTINGS,
    SIZE,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Peer,
    frame,
)
from verdict import expect

CASES = []

# Cases that fail, with the reasons.
KNOWN = {
    "8.1: a pseudo-header field in trailers": "h2 does not check the names of trailers; the gateway forwards none",
}


def case(section, text, *codes, connection=True, shake=True):
    """Registers a case that must end the connection, or at least the stream; without codes, a case that must be tolerated."""

    def add(send):
        def judge(gateway, path):
            peer = Peer(gateway, path, shake)
            try:
                send(peer)
                if codes:
                    peer.errs(*codes, connection=connection)
                else:
                    peer.bears()
            finally:
                peer.stream.close()

        CASES.append((f"{section}: {text}", judge))
        return send

    return add


def sends(section, text, *codes, connection=True, frames):
    """Registers a case that sends these frames, which `frames` creates from the peer."""
    case(section, text, *codes, connection=connection)(lambda peer: peer.send(*frames(peer)))


case("3.4", "an invalid preface", PROTOCOL, shake=False)(lambda p: p.send(b"INVALID CONNECTION PREFACE\r\n\r\n"))
sends("4.1", "a frame of an unknown type", frames=lambda p: [frame(0xFF, 0, 0, b"x" * 8)])
sends("4.1", "undefined flags", frames=lambda p: [frame(PING, 0x16, 0, bytes(8))])
sends("4.1", "the reserved bit", frames=lambda p: [frame(PING, 0, 1 << 31, bytes(8))])
sends(
    "4.2",
    "DATA beyond the maximum frame size",
    SIZE,
    connection=False,
    frames=lambda p: [p.post(), frame(DATA, 0, 1, bytes(16_385))],
)
sends(
    "4.2",
    "HEADERS beyond the maximum frame size",
    SIZE,
    frames=lambda p: [frame(HEADERS, 5, 1, p.block(p.fields(("x", "a" * 16_384))))],
)
sends(
    "4.3",
    "fields that do not decode",
    COMPRESSION,
    frames=lambda p: [frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff")],
)
sends(
    "4.3",
    "PRIORITY within a block",
    PROTOCOL,
    frames=lambda p: [p.head(1, flags=END_STREAM), frame(PRIORITY, 0, 1, bytes(5))],
)
sends(
    "4.3",
    "HEADERS of another stream within a block",
    PROTOCOL,
    frames=lambda p: [p.head(1, flags=END_STREAM), p.head(3)],
)
sends("5.1", "DATA on an idle stream", PROTOCOL, CLOSED, frames=lambda p: [frame(DATA, 1, 1, b"test")])
sends(
    "5.1",
    "RST_STREAM on an idle stream",
    PROTOCOL,
    frames=lambda p: [frame(RST_STREAM, 0, 1, bytes([0, 0, 0, CANCEL]))],
)
sends(
    "5.1",
    "WINDOW_UPDATE on an idle stream",
    PROTOCOL,
    frames=lambda p: [frame(WINDOW_UPDATE, 0, 1, bytes([0, 0, 0, 100]))],
)
sends("5.1", "CONTINUATION on an idle stream", PROTOCOL, frames=lambda p: [frame(CONTINUATION, 4, 1, b"\x82")])
sends(
    "5.1",
    "DATA after the end of a request",
    CLOSED,
    connection=False,
    frames=lambda p: [p.head(1), frame(DATA, 1, 1, b"test")],
)
sends(
    "5.1",
    "HEADERS after the end of a request",
    CLOSED,
    PROTOCOL,
    connection=False,
    frames=lambda p: [p.head(1), p.head(1)],
)
sends(
    "5.1",
    "CONTINUATION after the end of a request",
    CLOSED,
    PROTOCOL,
    frames=lambda p: [p.head(1), frame(CONTINUATION, 4, 1, b"\x82")],
)
sends(
    "5.1",
    "DATA after a reset",
    CLOSED,
    PROTOCOL,
    connection=False,
    frames=lambda p: [
        p.post(),
        frame(RST_STREAM, 0, 1, bytes([0, 0, 0, CANCEL])),
        frame(DATA, 1, 1, b"test"),
    ],
)
sends(
    "5.1",
    "HEADERS after a reset",
    CLOSED,
    PROTOCOL,
    connection=False,
    frames=lambda p: [
        p.post(),
        frame(RST_STREAM, 0, 1, bytes([0, 0, 0, CANCEL])),
        p.head(1),
    ],
)
sends("5.1.1", "a stream with an even number", PROTOCOL, frames=lambda p: [p.head(2)])
sends(
    "5.1.1", "a stream with a lower number than an earlier one", PROTOCOL, CLOSED, frames=lambda p: [p.head(5), p.head(3)]
)
sends(
    "5.1.2",
    "more streams than are allowed",
    PROTOCOL,
    REFUSED,
    ENHANCE_YOUR_CALM,
    connection=False,
    frames=lambda p: [p.head(n, method="POST", flags=END_HEADERS) for n in range(1, 4_001, 2)],
)
sends(
    "5.5",
    "an unknown frame within a block",
    PROTOCOL,
    frames=lambda p: [p.head(1, flags=END_STREAM), frame(0xFF, 0, 1, b"x")],
)
sends("6.1", "DATA on stream 0", PROTOCOL, frames=lambda p: [frame(DATA, 1, 0, b"test")])
sends(
    "6.1",
    "DATA with more padding than payload",
    PROTOCOL,
    frames=lambda p: [p.post(), frame(DATA, PADDED, 1, b"\x06test")],
)
sends("6.2", "HEADERS on stream 0", PROTOCOL, frames=lambda p: [p.head(0)])
sends(
    "6.2",
    "HEADERS with more padding than payload",
    PROTOCOL,
    frames=lambda p: [frame(HEADERS, 5 | PADDED, 1, b"\xff\x82")],
)
sends(
    "6.2",
    "padding and priority",
    frames=lambda p: [
        frame(HEADERS, 5 | PADDED | WITH_PRIORITY, 1, b"\x02" + bytes(4) + b"\x10" + p.block(p.fields()) + bytes(2))
    ],
)
sends("6.3", "PRIORITY on stream 0", PROTOCOL, frames=lambda p: [frame(PRIORITY, 0, 0, bytes(5))])
sends("6.3", "PRIORITY of invalid length", SIZE, connection=False, frames=lambda p: [frame(PRIORITY, 0, 1, bytes(4))])
sends("6.4", "RST_STREAM on stream 0", PROTOCOL, frames=lambda p: [frame(RST_STREAM, 0, 0, bytes(4))])
sends(
    "6.4",
    "RST_STREAM of invalid length",
    SIZE,
    frames=lambda p: [p.post(), frame(RST_STREAM, 0, 1, bytes(3))],
)
sends(
    "6.5", "an acknowledgement of SETTINGS with a payload", SIZE, frames=lambda p: [frame(SETTINGS, ACK, 0, bytes(1))]
)
sends("6.5", "SETTINGS on a stream", PROTOCOL, frames=lambda p: [frame(SETTINGS, 0, 1, bytes([0, 3, 0, 0, 0, 100]))])
sends("6.5", "SETTINGS of invalid length", SIZE, frames=lambda p: [frame(SETTINGS, 0, 0, bytes(3))])
sends("6.5.2", "ENABLE_PUSH of 2", PROTOCOL, frames=lambda p: [frame(SETTINGS, 0, 0, bytes([0, 2, 0, 0, 0, 2]))])
sends(
    "6.5.2",
    "INITIAL_WINDOW_SIZE above its maximum",
    FLOW,
    frames=lambda p: [frame(SETTINGS, 0, 0, bytes([0, 4, 0x80, 0, 0, 0]))],
)
sends(
    "6.5.2",
    "MAX_FRAME_SIZE below its minimum",
    PROTOCOL,
    frames=lambda p: [frame(SETTINGS, 0, 0, bytes([0, 5, 0, 0, 0x3F, 0xFF]))],
)
sends(
    "6.5.2",
    "MAX_FRAME_SIZE above its maximum",
    PROTOCOL,
    frames=lambda p: [frame(SETTINGS, 0, 0, bytes([0, 5, 1, 0, 0, 0]))],
)
sends("6.5.2", "an unknown setting", frames=lambda p: [frame(SETTINGS, 0, 0, bytes([0, 0xFF, 0, 0, 0, 1]))])
sends(
    "6.6",
    "PUSH_PROMISE from a client",
    PROTOCOL,
    frames=lambda p: [
        p.post(),
        frame(PUSH_PROMISE, 4, 1, bytes([0, 0, 0, 2]) + b"\x82"),
    ],
)
sends("6.7", "PING on a stream", PROTOCOL, frames=lambda p: [frame(PING, 0, 1, bytes(8))])
sends("6.7", "PING of invalid length", SIZE, frames=lambda p: [frame(PING, 0, 0, bytes(6))])
sends("6.8", "GOAWAY on a stream", PROTOCOL, frames=lambda p: [frame(GOAWAY, 0, 1, bytes(8))])
sends("6.9", "WINDOW_UPDATE of 0 for the connection", PROTOCOL, frames=lambda p: [frame(WINDOW_UPDATE, 0, 0, bytes(4))])
sends(
    "6.9",
    "WINDOW_UPDATE of 0 for a stream",
    PROTOCOL,
    connection=False,
    frames=lambda p: [p.post(), frame(WINDOW_UPDATE, 0, 1, bytes(4))],
)
sends("6.9", "WINDOW_UPDATE of invalid length", SIZE, frames=lambda p: [frame(WINDOW_UPDATE, 0, 0, bytes(3))])
sends(
    "6.9.1",
    "a connection window above its maximum",
    FLOW,
    frames=lambda p: [frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff")] * 2,
)
sends(
    "6.9.1",
    "a stream window above its maximum",
    FLOW,
    connection=False,
    frames=lambda p: [p.post()] + [frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff")] * 2,
)
sends(
    "6.10",
    "CONTINUATION after the end of a block",
    PROTOCOL,
    frames=lambda p: [p.post(), frame(CONTINUATION, 4, 1, b"\x82")],
)
sends(
    "6.10",
    "CONTINUATION on stream 0",
    PROTOCOL,
    frames=lambda p: [p.head(1, flags=END_STREAM), frame(CONTINUATION, 4, 0, b"\x82")],
)
sends(
    "6.10",
    "CONTINUATION without HEADERS",
    PROTOCOL,
    frames=lambda p: [
        p.post(),
        frame(DATA, 0, 1, b"test"),
        frame(CONTINUATION, 4, 1, b"\x82"),
    ],
)
sends(
    "8.1",
    "a second HEADERS without END_STREAM",
    PROTOCOL,
    connection=False,
    frames=lambda p: [p.post(), p.post()],
)
sends(
    "8.1.1",
    "less DATA than Content-Length says",
    PROTOCOL,
    connection=False,
    frames=lambda p: [p.post(("content-length", "9")), frame(DATA, 1, 1, b"test")],
)
sends(
    "8.1.1",
    "more DATA than Content-Length says",
    PROTOCOL,
    connection=False,
    frames=lambda p: [p.post(("content-length", "1")), frame(DATA, 1, 1, b"test")],
)
sends(
    "8.1.1",
    "several DATA frames that exceed Content-Length",
    PROTOCOL,
    connection=False,
    frames=lambda p: [
        p.post(("content-length", "1")),
        frame(DATA, 0, 1, b"te"),
        frame(DATA, 1, 1, b"st"),
    ],
)
for text, options in {
    "an upper-case name": {"more": [("X-TEST", "a")]},
    "an unknown pseudo-header field": {"more": [(":test", "a")]},
    "a pseudo-header field of responses": {"more": [(":status", "200")]},
    "a pseudo-header field after a regular field": {"more": [("x-a", "b"), (":path", "/")], "without": (":path",)},
    "Connection": {"more": [("connection", "keep-alive")]},
    "Transfer-Encoding": {"more": [("transfer-encoding", "chunked")]},
    "Upgrade": {"more": [("upgrade", "h2c")]},
    "TE with more than trailers": {"more": [("te", "trailers, deflate")]},
    "a line break in a value": {"more": [("x-a", "b\r\nx-c: d")]},
    "NUL in a value": {"more": [("x-a", "b\0c")]},
    "no :method": {"without": (":method",)},
    "no :scheme": {"without": (":scheme",)},
    "no :path": {"without": (":path",)},
    "an empty :path": {"path": ""},
    ":method twice": {"more_pseudo": (":method", "GET")},
    ":scheme twice": {"more_pseudo": (":scheme", "https")},
    ":path twice": {"more_pseudo": (":path", "/")},
}.items():

    def malformed(peer, options=options):
        fields = peer.fields(
            *options.get("more", []),
            without=options.get("without", ()),
            **{k: v for k, v in options.items() if k == "path"},
        )
        if repeated := options.get("more_pseudo"):
            fields.insert(0, repeated)
        return [frame(HEADERS, END_STREAM | END_HEADERS, 1, peer.block(fields))]

    sends("8.2 and 8.3", text, PROTOCOL, connection=False, frames=malformed)
sends(
    "8.1",
    "a pseudo-header field in trailers",
    PROTOCOL,
    connection=False,
    frames=lambda p: [
        p.post(),
        frame(DATA, 0, 1, b"test"),
        frame(HEADERS, 5, 1, p.block([(":method", "GET")])),
    ],
)


@case("6.7", "PING is echoed")
def _(peer):
    peer.send(frame(PING, 0, 0, b"h2spec!!"))
    expect(peer.until(lambda f: f[0] == PING and f[1] & ACK)[3] == b"h2spec!!", "received different bytes")


@case("6.7", "an acknowledgement of PING gets no reply")
def _(peer):
    peer.send(frame(PING, ACK, 0, b"invalid!"), frame(PING, 0, 0, b"h2spec!!"))
    expect(peer.until(lambda f: f[0] == PING)[3] == b"h2spec!!", "received a reply")


@case("6.9.2", "no response DATA exceeds a window of one byte")
def _(peer):
    peer.send(frame(SETTINGS, 0, 0, bytes([0, 4, 0, 0, 0, 1])), peer.head(1))
    length = len(peer.until(lambda f: f[0] == DATA and f[2] == 1)[3])
    expect(length == 1, f"received {length} bytes")
    peer.send(frame(WINDOW_UPDATE, 0, 1, bytes([0, 0, 1, 0])))
    peer.until(lambda f: f[0] == DATA and f[2] == 1 and f[3])
    peer.send(frame(SETTINGS, 0, 0, bytes([0, 4, 0, 0, 0xFF, 0xFF])))


@case("6.9.2", "a window that becomes negative is respected")
def _(peer):
    peer.send(frame(SETTINGS, 0, 0, bytes([0, 4, 0, 0, 0, 3])), peer.head(1))
    peer.until(lambda f: f[0] == DATA and f[2] == 1)
    peer.send(frame(SETTINGS, 0, 0, bytes([0, 4, 0, 0, 0, 2])), frame(WINDOW_UPDATE, 0, 1, bytes([0, 0, 0, 2])))
    length = len(peer.until(lambda f: f[0] == DATA and f[2] == 1)[3])
    expect(length == 1, f"received {length} bytes")
    peer.send(frame(SETTINGS, 0, 0, bytes([0, 4, 0, 0, 0xFF, 0xFF])))


@case("6.10", "a block in many pieces")
def _(peer):
    block = peer.block(peer.fields())
    pieces = [block[:4], block[4:9], block[9:12], block[12:]]
    kinds = [(HEADERS, END_STREAM), (CONTINUATION, 0), (CONTINUATION, 0), (CONTINUATION, END_HEADERS)]
    peer.send(*(frame(kind, flags, 1, piece) for (kind, flags), piece in zip(kinds, pieces)))
    peer.until(lambda f: f[0] == HEADERS and f[2] == 1)
