"""Opens so many connections at once, then asks on each, and prints how many were answered well."""

import selectors
import socket
import sys
import time

address, port, count, wanted = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()
end = time.monotonic() + 30
waiting = selectors.DefaultSelector()
for _ in range(count):
    one = socket.socket()
    one.setblocking(False)
    one.connect_ex((address, port))
    waiting.register(one, selectors.EVENT_WRITE)
opened = []
while len(opened) < count and time.monotonic() < end:
    for key, _ in waiting.select(1):
        waiting.unregister(key.fileobj)
        opened.append(key.fileobj)
for one in opened:
    one.setblocking(True)
    one.settimeout(max(0.1, end - time.monotonic()))
    one.sendall(b"GET /name HTTP/1.0\r\n\r\n")
good = 0
for one in opened:
    answer = b""
    while piece := one.recv(65536):
        answer += piece
    good += answer.endswith(b"\r\n\r\n" + wanted)
print(good)
