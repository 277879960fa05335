"""What a guest does while its hot functions are replaced; the argument says which part of the kernel it is
for.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading


def files() -> None:
    with tempfile.TemporaryDirectory() as name:
        for number in range(60):
            path = os.path.join(name, str(number))
            with open(path, "w", encoding="utf-8") as file:
                file.write("x" * 5000)
            os.rename(path, path + "x")
            os.symlink("x", path)
            os.stat(path + "x")
    for folder, _, names in list(os.walk("/usr/lib/python3"))[:60]:
        for file_name in names:
            with open(os.path.join(folder, file_name), "rb") as opened:
                opened.read()
    with open("/dev/vda", "rb", buffering=0) as disk:
        for _ in range(200):
            disk.read(65536)
    # Past the page cache, so that the block layer is reached again whatever was read before.
    copy = ["dd", "if=/dev/vda", "of=/dev/null", "bs=64k", "count=200", "iflag=direct"]
    subprocess.run(copy, check=True, capture_output=True)


def network() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()

    def serve() -> None:
        peer, _ = server.accept()
        while data := peer.recv(65536):
            peer.sendall(data[:100])
        peer.close()

    thread = threading.Thread(target=serve)
    thread.start()
    client = socket.create_connection(server.getsockname())
    for _ in range(100):
        client.sendall(b"x" * 20000)
        client.recv(100)
    client.close()
    thread.join()
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagram.bind(("127.0.0.1", 0))
    for _ in range(50):
        datagram.sendto(b"y" * 500, datagram.getsockname())
        datagram.recv(1000)


def memory() -> None:
    area = mmap.mmap(-1, 32 << 20)
    for offset in range(0, 32 << 20, 4096):
        area[offset] = 1
    area.close()
    subprocess.run(["ls", "-lR", "/etc"], check=True, capture_output=True)


def tasks() -> None:
    read, write = os.pipe()
    poll = select.epoll()
    poll.register(read)
    for _ in range(50):
        os.write(write, b"a")
        poll.poll(1)
        os.read(read, 1)
    for _ in range(20):
        subprocess.run(["true"], check=True)
    one, other = socket.socketpair()
    one.send(b"z")
    other.recv(1)


if __name__ == "__main__":
    {"files": files, "network": network, "memory": memory, "tasks": tasks}[sys.argv[1]]()
