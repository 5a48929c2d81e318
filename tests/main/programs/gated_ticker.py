"""A server that takes small segments. On port 81 it says `tick` ten times a second to whoever is there; on port 22 it
listens and says nothing, and prints how that ends."""

import os
import socket
import threading
import time


def say(*words):
    os.write(1, (" ".join(words) + "\n").encode())


def tick(one):
    try:
        while True:
            one.sendall(b"tick\n")
            time.sleep(0.1)
    except OSError:
        one.close()


def listen(one):
    try:
        while piece := one.recv(100):
            say("heard:", piece.decode())
        say("silent: closed")
    except OSError as problem:
        say("silent:", type(problem).__name__)
    one.close()


def serve(port, what):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 900)
    server.bind(("", port))
    server.listen(100)
    say("listening", str(port))
    while True:
        threading.Thread(target=what, args=(server.accept()[0],), daemon=True).start()


threading.Thread(target=serve, args=(22, listen), daemon=True).start()
serve(81, tick)
