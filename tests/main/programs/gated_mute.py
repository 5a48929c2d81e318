"""A server that takes small segments and says nothing: on port 22 it listens, and prints how that ends; on port 81 its
queue is full, so that it does not even answer a SYN."""

import os
import socket
import threading


def say(*words):
    os.write(1, (" ".join(words) + "\n").encode())


def listen(one):
    say("accepted")
    try:
        one.recv(100)
        say("closed")
    except OSError as problem:
        say(type(problem).__name__)
    one.close()


full = socket.socket()
full.bind(("", 81))
full.listen(0)
fillers = [socket.socket() for _ in range(3)]
for filler in fillers:
    filler.setblocking(False)
    filler.connect_ex(("127.0.0.1", 81))
server = socket.socket()
server.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 900)
server.bind(("", 22))
server.listen(100)
say("listening")
while True:
    threading.Thread(target=listen, args=(server.accept()[0],), daemon=True).start()
