"""Connects ten times a second until there is a file STOP, at most for a minute, each time for itself, and fetches a
file. Prints for each when it began, how long the handshake took, and what became of it."""

import os
import socket
import sys
import threading
import time

address, stop = sys.argv[1:3]


def fetch():
    start, clock, took = time.time(), time.monotonic(), 0.0
    try:
        one = socket.create_connection((address, 80), 20)
        took = time.monotonic() - clock
        one.settimeout(20)
        one.sendall(b"GET /name HTTP/1.0\r\n\r\n")
        answer = b""
        while piece := one.recv(65536):
            answer += piece
        became = "good" if answer.endswith(b"server") else "cut"
        one.close()
    except OSError as problem:
        became = type(problem).__name__
    os.write(1, f"{start:.3f} {took:.3f} {became}\n".encode())


begin = time.monotonic()
threads = []
for number in range(600):
    if os.path.exists(stop):
        break
    threads.append(threading.Thread(target=fetch))
    threads[-1].start()
    time.sleep(max(0.0, begin + (number + 1) / 10 - time.monotonic()))
for thread in threads:
    thread.join()
