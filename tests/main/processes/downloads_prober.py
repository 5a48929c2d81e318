"""Opens a connection from one of its addresses after the other, every 20 ms, until it is killed.

Prints `SOURCE BEGIN SECONDS` for each, with the time from its SYN to its server's answer; `-` is one that has not been
answered in 0.4 s. Times are seconds since 1970.
"""

import asyncio
import itertools
import sys
import time

server, port, sources = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
STEP, LIMIT, LONGEST = 0.02, 0.4, 120


async def answered(source):
    reader, writer = await asyncio.open_connection(server, port, local_addr=(source, 0))
    try:
        writer.write(b"p")
        await reader.readexactly(1)
    finally:
        writer.close()


async def one(source):
    begin = time.time()
    try:
        await asyncio.wait_for(answered(source), LIMIT)
        took = time.time() - begin
    except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
        took = "-"
    print(source, begin, took, flush=True)


async def main():
    tries, due = set(), time.monotonic()
    for source in itertools.islice(itertools.cycle(sources), int(LONGEST / STEP)):
        task = asyncio.ensure_future(one(source))
        tries.add(task)
        task.add_done_callback(tries.discard)
        due = max(due + STEP, time.monotonic())
        await asyncio.sleep(due - time.monotonic())


asyncio.run(main())
