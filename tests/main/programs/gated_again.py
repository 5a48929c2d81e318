"""Fetches a file COUNT times from one and the same port, as soon as the system lets it go: the server closes first.
Prints how many were good, and the first problem."""

import errno
import socket
import sys
import time

address, count = sys.argv[1], int(sys.argv[2])


def connect():
    for _ in range(2000):
        one = socket.socket()
        one.settimeout(5)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("", 40000))
            one.connect((address, 80))
            return one
        except OSError as error:
            one.close()
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EADDRINUSE):
                raise
        # The last acknowledgement is on its way.
        time.sleep(0.001)
    raise TimeoutError("the port stays taken")


good, problem = 0, ""
for _ in range(count):
    try:
        one = connect()
        one.sendall(b"GET /name HTTP/1.0\r\n\r\n")
        answer = b""
        while piece := one.recv(65536):
            answer += piece
        good += answer.endswith(b"server")
        one.close()
    except OSError as error:
        problem = problem or f" {error}"
print(f"{good}{problem}")
