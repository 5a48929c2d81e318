"""Serves what downloads.rs asks for: a download goes on, a piece now and then, until the client has enough."""

import asyncio
import hashlib
import sys

PIECE, PAUSE = 1200, 0.25


async def download(reader, writer):
    enough = asyncio.ensure_future(reader.read(1))
    digest, number = hashlib.sha256(), 0
    while not enough.done():
        number += 1
        seed = hashlib.sha256(f"{id(writer)} {number}".encode()).digest()
        piece = (seed * (PIECE // len(seed) + 1))[:PIECE]
        digest.update(piece)
        writer.write(len(piece).to_bytes(4, "big") + piece)
        await writer.drain()
        await asyncio.wait([enough], timeout=PAUSE)
    writer.write(bytes(4) + digest.digest())
    await writer.drain()


async def serve(reader, writer):
    try:
        kind = await reader.readexactly(1)
        if kind == b"d":
            await download(reader, writer)
        else:
            writer.write(kind)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, sys.argv[1], 8080, backlog=512)
    await server.serve_forever()


asyncio.run(main())
