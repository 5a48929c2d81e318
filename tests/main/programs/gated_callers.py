"""Fetches a file again and again, some connections at a time, and prints what became of each. One listens to the
ticker until it ends, and one says a word to who answers nothing, and waits."""

import os
import socket
import sys
import threading
import time

address, count = sys.argv[1], int(sys.argv[2])


def say(*words):
    os.write(1, (" ".join(words) + "\n").encode())


def listen():
    one = socket.create_connection((address, 81), 30)
    try:
        while piece := one.recv(100):
            say("ticker:", piece.split()[0].decode())
        say("ticker: closed")
    except OSError as problem:
        say("ticker:", type(problem).__name__)


def wait():
    try:
        one = socket.create_connection((address, 22), 60)
        one.sendall(b"hello")
        say("silent:", "closed" if one.recv(100) == b"" else "answered")
    except OSError as problem:
        say("silent:", type(problem).__name__)


def fetch():
    for _ in range(count):
        try:
            one = socket.create_connection((address, 80), 30)
            one.sendall(b"GET /name HTTP/1.0\r\n\r\n")
            answer = b""
            while piece := one.recv(65536):
                answer += piece
            say("fetch:", "good" if answer.endswith(b"server") else "cut")
            one.close()
        except OSError as problem:
            say("fetch:", type(problem).__name__)
        time.sleep(0.03)


threads = [threading.Thread(target=what) for what in [listen, wait, fetch, fetch, fetch, fetch]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
say("done")
