"""WebSockets with the `websockets` package at both ends: every message arrives, and close codes are preserved."""

import asyncio
import os
import ssl

import websockets

from verdict import expect


async def messages(url, context, compression, quick):
    large = os.urandom(16 << 20)
    sent = ["", "text", "é" * 1_000, b"", b"\0" * 125, b"\1" * 126, os.urandom(65_535), os.urandom(65_536), large]
    sent += [os.urandom(n % 3_000) if n % 2 else "x" * (n % 3_000) for n in range(200 if quick else 2_000)]
    options = {"ssl": context, "compression": compression, "max_size": 64 << 20}
    async with websockets.connect(url, **options) as connection:
        compressed = bool(connection.protocol.extensions)
        expect(compressed == (compression is not None), f"permessage-deflate: {compressed}")
        for message in sent:
            await connection.send(message)
            expect(await connection.recv() == message, f"a message of {len(message)} bytes came back changed")
        for parts in (["a", "b" * 70_000, "", "c"], [b"a", os.urandom(70_000), b""]):
            await connection.send(parts)
            whole = type(parts[0])().join(parts)
            expect(await connection.recv() == whole, "a fragmented message came back changed")
        for payload in (b"", b"p" * 125):
            await asyncio.wait_for(await connection.ping(payload), 5)
        # Many at once, while others are on their way back.
        burst = [os.urandom(1_000) for _ in range(1_000)]
        send = asyncio.create_task(send_all(connection, burst))
        expect([await connection.recv() for _ in burst] == burst, "a burst came back in a different order")
        await send
    return len(sent) + 2 + len(burst)


async def send_all(connection, messages_):
    for message in messages_:
        await connection.send(message)


async def closes(url, context):
    codes = (1000, 1001, 1003, 1008, 1009, 1011, 1013, 3000, 4999)
    for code in codes:
        connection = await websockets.connect(url, ssl=context)
        await connection.send(f"close {code}")
        await connection.wait_closed()
        seen = (connection.close_code, connection.close_reason)
        expect(seen == (code, "as requested"), f"the application closed with {code}, but the client received {seen}")
        connection = await websockets.connect(url, ssl=context)
        await connection.close(code, "enough")
        expect(connection.protocol.close_sent.code == code, "closed with a different code")
        expect(
            connection.protocol.close_rcvd and connection.protocol.close_rcvd.code == code, f"{code} was not echoed"
        )
    return len(codes)


def websocket(gateways, quick):
    gateway = gateways("intermediate")
    context = ssl.create_default_context(cafile=str(gateway.authority))
    url = f"wss://localhost:{gateway.port}/ws"

    async def all_of_it():
        plain = await messages(url, context, None, quick)
        deflated = await messages(url, context, "deflate", quick)
        return plain, deflated, await closes(url, context)

    plain, deflated, codes = asyncio.run(all_of_it())
    return f"{plain} messages plain, {deflated} deflated, up to 16 MiB; {codes} close codes each way"
