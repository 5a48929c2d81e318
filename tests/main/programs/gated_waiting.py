"""Connects to each of some ports and waits for the server to speak first. Prints for each when it waits, and what
became of it."""

import os
import socket
import sys
import threading


def say(*words):
    os.write(1, (" ".join(words) + "\n").encode())


def wait(address, port):
    try:
        one = socket.create_connection((address, int(port)), 20)
        say(port, "waits")
        said = one.recv(100)
        say(port, "closed" if said == b"" else "answered")
    except OSError as problem:
        say(port, type(problem).__name__)


threads = [threading.Thread(target=wait, args=(sys.argv[1], port)) for port in sys.argv[2:]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
