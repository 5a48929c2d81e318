"""A server on port 81 that takes small segments, and says `tick` ten times a second to whoever is there."""

import socket
import threading
import time


def tick(one):
    try:
        while True:
            one.sendall(b"tick\n")
            time.sleep(0.1)
    except OSError:
        one.close()


server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 900)
server.bind(("", 81))
server.listen(100)
print("listening", flush=True)
while True:
    threading.Thread(target=tick, args=(server.accept()[0],), daemon=True).start()
