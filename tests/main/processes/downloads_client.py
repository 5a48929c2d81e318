"""Holds so many downloads from each of its addresses until SIGINT, then has them end and compares their digests.

Prints `up` when all have begun, `pause SOURCE BEGIN SECONDS` for each pause of more than half a second in one,
`broken SOURCE TIME WHY` for each that fails, and at the end `whole COUNT BYTES`. Times are seconds since 1970.
"""

import asyncio
import hashlib
import signal
import sys
import time

server, port, count, sources = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
LIMIT = 100
begun = total = whole = 0


async def download(source, enough):
    global begun, total, whole
    try:
        reader, writer = await asyncio.open_connection(server, port, local_addr=(source, 0))
        writer.write(b"d")
        end = asyncio.ensure_future(finish(writer, enough))
        digest, last = hashlib.sha256(), None
        while length := int.from_bytes(await reader.readexactly(4), "big"):
            piece = await reader.readexactly(length)
            now = time.time()
            begun += last is None
            if last is not None and now - last > 0.5:
                print("pause", source, last, now - last, flush=True)
            digest.update(piece)
            total += length
            last = now
        if digest.digest() != await reader.readexactly(32):
            raise OSError("the digest differs")
        whole += 1
        await end
        writer.close()
    except (OSError, asyncio.IncompleteReadError) as problem:
        print("broken", source, time.time(), repr(problem), flush=True)


async def finish(writer, enough):
    await enough.wait()
    writer.write(b".")


async def main():
    enough = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, enough.set)
    tasks = []
    for number in range(count):
        tasks += [asyncio.ensure_future(download(source, enough)) for source in sources]
        await asyncio.sleep(0.01)
    while begun < len(tasks) and not enough.is_set():
        await asyncio.sleep(0.05)
    print("up", flush=True)
    await asyncio.wait(tasks, timeout=LIMIT)
    print("whole", whole, total, flush=True)


asyncio.run(main())
