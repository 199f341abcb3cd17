"""HTTP/2 by RFC 9113, case by case, on a route that passes, one that refuses, one that is limited and one that is not there.

h2spec cannot be installed from a registry. A case holds when the stream or the connection ends with a code that the
section names, or the connection with PROTOCOL_ERROR, which says no less (h2spec takes any end of a connection); or, for
what must be borne, when a request on the same connection succeeds after it.
"""

import asyncio
import itertools

import httpx

from http2_cases import CASES, KNOWN
from verdict import expect

# What depends on which of two frames comes first shows itself now and then.
TIMES = 10


async def many(gateway):
    """httpx: 200 requests at a time over one connection."""
    async with httpx.AsyncClient(http2=True, verify=str(gateway.authority)) as client:
        answers = await asyncio.gather(*(client.get(f"{gateway.url}/open/{n}") for n in range(100)))
        bodies = await asyncio.gather(*(client.post(f"{gateway.url}/open/{n}", content=b"x" * n) for n in range(100)))
    expect(all(a.http_version == "HTTP/2" and a.text == "plain" for a in answers), "an answer is another one")
    expect(all(len(a.content) == n for n, a in enumerate(bodies)), "an echo is another one")


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
                expect(name not in KNOWN, "it holds now; take it out of KNOWN")
            except Exception as error:
                if name in KNOWN and isinstance(error, TimeoutError):
                    continue
                failed.append(f"{name} (where it {route}): {type(error).__name__} {error}")
    expect(not failed, f"{len(failed)} of {len(CASES) * len(routes) * times}:\n  " + "\n  ".join(failed))
    try:
        asyncio.run(many(gateway))
    except httpx.LocalProtocolError:
        # httpcore opens streams in another order than it numbers them, now and then, and refuses its own request. Once is enough.
        asyncio.run(many(gateway))
    expect(gateway.lives(), "the gateway is gone")
    held = f"{len(CASES) - len(KNOWN)} of {len(CASES)} cases on each of {len(routes)} routes, {times} times in a row"
    return f"{held}; httpx: 200 of 200; not: {', '.join(f'{name} ({why})' for name, why in KNOWN.items())}"
