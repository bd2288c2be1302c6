"""A link that treats packets as bad networks do: lost, twice, out of order, late, in one direction or both, with any MTU.

Two network namespaces of its own, a tun device in each, and packets between them through this process, so that nothing of the
host's network changes and the kernel needs no module. In the far one it listens, and carries what comes to TARGET in the
namespace that it was started in. Prints {"namespace": PATH, "address": ADDRESS} of the near one; then reads lines of JSON from
standard input: {"there": WAY, "back": WAY} with any of loss, twice, swap (percent) and late (ms); answers each with what it did
so far. Ends when standard input ends.

    packets.py MTU TARGET_HOST TARGET_PORT
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import selectors
import socket
import struct
import subprocess
import sys
import threading
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
NEAR, FAR = "10.213.0.1", "10.213.0.2"
# How much later a packet comes that others overtake, s.
SWAPPED = 0.02

libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def namespace(own, other, mtu):
    """A namespace with a tun device, in which this process is from then on."""
    check(libc.unshare(CLONE_NEWNET))
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"bad", IFF_TUN | IFF_NO_PI))
    for words in (f"addr add {own} peer {other} dev bad", f"link set dev bad mtu {mtu} up"):
        subprocess.run(["ip", *words.split()], check=True)
    return tun, os.open("/proc/self/ns/net", os.O_RDONLY)


class Way:
    """One direction."""

    def __init__(self, to):
        self.to, self.queue, self.number = to, [], 0
        self.weather = {}
        self.counts = {"packets": 0, "lost": 0, "twice": 0, "swapped": 0, "largest": 0, "largest_lost": 0}

    def happens(self, what):
        return random.uniform(0, 100) < self.weather.get(what, 0)

    def take(self, packet):
        self.counts["packets"] += 1
        self.counts["largest"] = max(self.counts["largest"], len(packet))
        if self.happens("loss"):
            self.counts["lost"] += 1
            self.counts["largest_lost"] = max(self.counts["largest_lost"], len(packet))
            return
        due = time.monotonic() + self.weather.get("late", 0) / 1000
        if self.happens("swap"):
            self.counts["swapped"] += 1
            due += SWAPPED
        copies = 1
        if self.happens("twice"):
            self.counts["twice"] += 1
            copies = 2
        for _ in range(copies):
            self.number += 1
            heapq.heappush(self.queue, (due, self.number, packet))

    def hand_over(self):
        """Hands over what is due; how long until the next is, s."""
        while self.queue and self.queue[0][0] <= time.monotonic():
            try:
                os.write(self.to, heapq.heappop(self.queue)[2])
            except OSError:
                self.counts["lost"] += 1
        return max(0.0, self.queue[0][0] - time.monotonic()) if self.queue else None


def carry(source, sink):
    """Bytes of a connection, as they come; the end of one direction ends both."""
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def main():
    mtu, target = int(sys.argv[1]), (sys.argv[2], int(sys.argv[3]))
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    near, near_namespace = namespace(NEAR, FAR, mtu)
    far, _kept = namespace(FAR, NEAR, mtu)
    listener = socket.create_server((FAR, 0))
    listener.setblocking(False)
    check(libc.setns(home, CLONE_NEWNET))

    there, back = Way(far), Way(near)
    selector = selectors.DefaultSelector()
    connections = 0

    def accept():
        nonlocal connections
        outer, _ = listener.accept()
        outer.setblocking(True)
        connections += 1
        inner = socket.create_connection(target)
        for ends in ((outer, inner), (inner, outer)):
            ends[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # In threads: a full socket may wait for packets that this one hands over.
            threading.Thread(target=carry, args=ends, daemon=True).start()

    def packets(tun, way):
        try:
            while True:
                way.take(os.read(tun, 65536))
        except BlockingIOError:
            pass

    def command():
        line = sys.stdin.readline()
        if not line:
            sys.exit(0)
        wanted = json.loads(line)
        there.weather, back.weather = wanted.get("there", {}), wanted.get("back", {})
        print(json.dumps({"connections": connections, "there": there.counts, "back": back.counts}), flush=True)

    selector.register(near, selectors.EVENT_READ, lambda: packets(near, there))
    selector.register(far, selectors.EVENT_READ, lambda: packets(far, back))
    selector.register(listener, selectors.EVENT_READ, accept)
    selector.register(sys.stdin, selectors.EVENT_READ, command)
    place = f"/proc/{os.getpid()}/fd/{near_namespace}"
    print(json.dumps({"namespace": place, "address": "%s:%d" % listener.getsockname()}), flush=True)
    while True:
        waits = [wait for wait in (there.hand_over(), back.hand_over()) if wait is not None]
        for key, _ in selector.select(min(waits, default=None)):
            key.data()


main()
