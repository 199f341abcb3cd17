"""RFC 9113, case by case, on a route that forwards, one that denies, one that is rate limited and one that does not exist.

h2spec cannot be installed from a registry. A case passes if the stream or the connection ends with a code that the section names, or the
connection with PROTOCOL_ERROR, which is as specific (h2spec accepts any end of a connection). A case that must be tolerated passes if a
request on the same connection succeeds afterwards.
"""

import asyncio
import itertools

import httpx

from http2_cases import CASES, KNOWN
from verdict import expect

# Cases that depend on the order in which two frames arrive fail only now and then.
TIMES = 10


async def many(gateway):
    """Sends 200 requests with httpx over one connection, 100 at a time."""
    async with httpx.AsyncClient(http2=True, verify=str(gateway.authority)) as client:
        answers = await asyncio.gather(*(client.get(f"{gateway.url}/open/{n}") for n in range(100)))
        bodies = await asyncio.gather(*(client.post(f"{gateway.url}/open/{n}", content=b"x" * n) for n in range(100)))
    expect(all(a.http_version == "HTTP/2" and a.text == "plain" for a in answers), "unexpected response")
    expect(all(len(a.content) == n for n, a in enumerate(bodies)), "unexpected echo")


def http2(gateways, quick):
    gateway, failed = gateways("intermediate"), []
    gateway.lives()
    routes = {"passes": "/open/a", "refuses": "/guarded", "is limited": "/limited", "is unknown": "/nowhere"}
    with gateway.tls() as stream:
        stream.sendall(b"GET /limited HTTP/1.1\r\nHost: localhost\r\n\r\n")
        stream.recv(65536)
    times = 1 if quick else TIMES
    for turn, (route, path) in itertools.product(range(times), routes.items()):
        for name, judge in CASES:
            if name in KNOWN and (quick or turn > 0):
                continue
            try:
                judge(gateway, path)
                expect(name not in KNOWN, "the case passes now; remove it from KNOWN")
            except Exception as error:
                if name in KNOWN and isinstance(error, TimeoutError):
                    continue
                failed.append(f"{name} (where it {route}): {type(error).__name__} {error}")
    expect(not failed, f"{len(failed)} of {len(CASES) * len(routes) * times}:\n  " + "\n  ".join(failed))
    try:
        asyncio.run(many(gateway))
    except httpx.LocalProtocolError:
        # httpcore sometimes opens streams in a different order than it numbers them, and refuses its own request. One retry is enough.
        asyncio.run(many(gateway))
    expect(gateway.lives(), "the gateway no longer responds")
    held = f"{len(CASES) - len(KNOWN)} of {len(CASES)} cases on each of {len(routes)} routes, {times} times in a row"
    return f"{held}; httpx: 200 of 200; not: {', '.join(f'{name} ({why})' for name, why in KNOWN.items())}"
