"""Sockets of every family, each used a little. Runs in the guest; a family that is not there says so."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import threading
from collections.abc import Callable

LOOPBACK = ("127.0.0.1", 0)
SCTP, DCCP, RDS, QRTR, SMC = 132, 33, 21, 42, 43
SOL_DCCP, SOL_TLS, SOL_PACKET = 269, 282, 263
TCP_ULP, TCP_MD5SIG, SO_ZEROCOPY = 31, 14, 60
ALGORITHMS = (
    "reno cubic bbr dctcp vegas westwood htcp hybla illinois veno yeah bic cdg nv lp scalable highspeed"
)


def attempt(function: Callable[..., object], *arguments: object) -> None:
    try:
        function(*arguments)
    except (OSError, AttributeError, ValueError) as error:
        print(getattr(function, "__name__", function), error)


def connected(family: int, kind: int, protocol: int, address: object) -> tuple[socket.socket, socket.socket]:
    """A client and its peer."""
    server = socket.socket(family, kind, protocol)
    if protocol == DCCP:
        server.setsockopt(SOL_DCCP, 2, struct.pack("!I", 5))
    server.bind(address)
    server.listen()
    client = socket.socket(family, kind, protocol)
    if protocol == DCCP:
        client.setsockopt(SOL_DCCP, 2, struct.pack("!I", 5))
    client.settimeout(5)
    client.connect(server.getsockname())
    peer, _ = server.accept()
    peer.settimeout(5)
    return client, peer


def every_family() -> None:
    for family in range(1, 46):
        for kind in (1, 2, 3, 5):
            for protocol in (0, 1, 2, 4, 6, 7):
                with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as one:
                    one.setblocking(False)
                    prod(one)


def prod(one: socket.socket) -> None:
    calls: list[Callable[[], object]] = [
        lambda: one.bind(("", 0)),
        lambda: one.listen(1),
        one.getsockname,
        one.getpeername,
        lambda: one.recv(10),
        lambda: one.setsockopt(1, 2, 1),
        lambda: one.getsockopt(1, 4),
        lambda: one.send(b"x"),
        lambda: one.shutdown(2),
    ]
    for call in calls:
        with contextlib.suppress(OSError, TypeError, ValueError):
            call()


def local() -> None:
    one, other = socket.socketpair()
    socket.send_fds(one, [b"x"], [0, 1])
    socket.recv_fds(other, 1, 2)
    one.send(b"o", socket.MSG_OOB)
    other.recv(1, socket.MSG_OOB)
    client, peer = connected(socket.AF_UNIX, socket.SOCK_STREAM, 0, "\0abstract")
    peer.sendall(b"x" * 100)
    client.recv(50, socket.MSG_PEEK)
    client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    connected(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, "\0packets")


def sctp() -> None:
    client, peer = connected(socket.AF_INET, socket.SOCK_STREAM, SCTP, LOOPBACK)
    peer.sendall(b"x" * 5000)
    client.recv(100)
    many = socket.socket(socket.AF_INET6, socket.SOCK_SEQPACKET, SCTP)
    many.bind(("::1", 0))
    many.listen()
    one = socket.socket(socket.AF_INET6, socket.SOCK_SEQPACKET, SCTP)
    one.sendto(b"y", many.getsockname())
    many.recv(10)
    for option in range(1, 40):
        with contextlib.suppress(OSError):
            client.getsockopt(SCTP, option, 256)
    client.close()


def dccp() -> None:
    client, peer = connected(socket.AF_INET, 6, DCCP, LOOPBACK)
    peer.send(b"x" * 100)
    client.recv(100)
    client.close()


def vsock() -> None:
    client, peer = connected(socket.AF_VSOCK, socket.SOCK_STREAM, 0, (1, 99))
    peer.sendall(b"x" * 70000)
    client.recv(70000)
    client.close()
    client, peer = connected(socket.AF_VSOCK, socket.SOCK_SEQPACKET, 0, (1, 98))
    peer.sendall(b"x" * 7000)
    client.recv(7000)


def tipc() -> None:
    names = socket.socket(socket.AF_TIPC, socket.SOCK_RDM)
    names.bind((socket.TIPC_ADDR_NAMESEQ, 1000, 0, 9, socket.TIPC_NODE_SCOPE))
    names.settimeout(5)
    with socket.socket(socket.AF_TIPC, socket.SOCK_RDM) as other:
        other.sendto(b"x", (socket.TIPC_ADDR_NAME, 1000, 1, 0))
        names.recv(5)
    server = socket.socket(socket.AF_TIPC, socket.SOCK_STREAM)
    server.bind((socket.TIPC_ADDR_NAMESEQ, 1001, 0, 9, socket.TIPC_NODE_SCOPE))
    server.listen(0)
    threading.Thread(target=lambda: server.accept()[0].send(b"y"), daemon=True).start()
    client = socket.socket(socket.AF_TIPC, socket.SOCK_STREAM)
    client.settimeout(5)
    client.connect((socket.TIPC_ADDR_NAME, 1001, 1, 0))
    client.recv(1)
    group = socket.socket(socket.AF_TIPC, socket.SOCK_RDM)
    group.setsockopt(271, 135, struct.pack("=IIII", 4711, 1, 2, 1))


def rds() -> None:
    one, other = socket.socket(RDS, 5), socket.socket(RDS, 5)
    one.bind(("127.0.0.1", 4000))
    other.bind(("127.0.0.1", 4001))
    one.settimeout(5)
    other.sendto(b"x" * 5000, ("127.0.0.1", 4000))
    one.recv(9000)


def smc() -> None:
    client, peer = connected(SMC, socket.SOCK_STREAM, 0, LOOPBACK)
    peer.sendall(b"x" * 3000)
    client.recv(3000)
    client.close()
    peer.close()


def tls() -> None:
    for cipher, size in ((51, 40), (52, 56), (54, 56)):
        client, peer = connected(socket.AF_INET, socket.SOCK_STREAM, 0, LOOPBACK)
        info = struct.pack("=HH", 0x303, cipher) + b"k" * (size - 4)
        for one in (client, peer):
            one.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
            one.setsockopt(SOL_TLS, 1, info)
            one.setsockopt(SOL_TLS, 2, info)
        client.sendall(b"secret" * 5000)
        peer.recv(30000)
        with open("/bin/ls", "rb") as file:
            os.sendfile(client.fileno(), file.fileno(), 0, 30000)
        peer.recv(10000)
        peer.recv(10, socket.MSG_PEEK)
        client.close()
        peer.close()


def crypto() -> None:
    kinds = (("hash", "sha256"), ("hash", "hmac(sha1)"), ("skcipher", "cbc(aes)"), ("aead", "gcm(aes)"))
    for kind, name in kinds:
        with socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET) as one:
            one.bind((kind, name))
            attempt(one.setsockopt, socket.SOL_ALG, socket.ALG_SET_KEY, b"k" * 16)
            operation, _ = one.accept()
            with operation:
                attempt(encrypt if kind in ("skcipher", "aead") else digest, operation, kind)


def encrypt(operation: socket.socket, kind: str) -> None:
    extra = {"assoclen": 16} if kind == "aead" else {}
    vector = b"i" * (12 if kind == "aead" else 16)
    operation.sendmsg_afalg([b"x" * 64], op=socket.ALG_OP_ENCRYPT, iv=vector, **extra)
    operation.recv(80 if kind == "aead" else 64)


def digest(operation: socket.socket, _kind: str) -> None:
    operation.send(b"x" * 5000)
    operation.recv(64)


def packet() -> None:
    one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    one.bind(("lo", 3))
    one.setsockopt(SOL_PACKET, 10, struct.pack("=i", 2))
    one.setsockopt(SOL_PACKET, 5, struct.pack("=IIIIIII", 65536, 4, 2048, 128, 100, 0, 0))
    one.setsockopt(SOL_PACKET, 18, struct.pack("=I", 1))
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9))
    one.close()


def qrtr() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    one, other = socket.socket(QRTR, 2), socket.socket(QRTR, 2)
    address = struct.pack("=HHII", QRTR, 0, 1, 99)
    libc.bind(one.fileno(), address, 12)
    libc.sendto(other.fileno(), b"x", 1, 0, address, 12)
    control = struct.pack("=HHII", QRTR, 0, 1, 0xFFFFFFFE)
    libc.sendto(other.fileno(), struct.pack("=IIIII", 10, 1, 0, 0, 0), 20, 0, control, 12)


def multicast() -> None:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("", 5001))
    member = socket.inet_aton("239.0.0.9") + socket.inet_aton("127.0.0.1")
    one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    source = socket.inet_aton("239.0.0.8") + socket.inet_aton("127.0.0.1") + socket.inet_aton("10.0.0.1")
    attempt(one.setsockopt, socket.IPPROTO_IP, 39, source)
    one.sendto(b"x", ("239.0.0.9", 5001))
    one.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, member)
    six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    group = socket.inet_pton(socket.AF_INET6, "ff02::9") + struct.pack("=i", 1)
    six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
    segmented = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    segmented.setsockopt(17, 103, 1000)
    segmented.setsockopt(17, 104, 1)
    segmented.connect(("127.0.0.1", 9))
    attempt(segmented.send, b"x" * 5000)
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 255)
    raw.setsockopt(socket.IPPROTO_IP, 3, 1)
    socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58).setsockopt(58, 1, bytes(32))
    router = socket.socket(socket.AF_INET, socket.SOCK_RAW, 2)
    attempt(router.setsockopt, socket.IPPROTO_IP, 200, 1)


def tcp() -> None:
    for algorithm in ALGORITHMS.split():
        client, peer = connected(socket.AF_INET, socket.SOCK_STREAM, 0, LOOPBACK)
        attempt(client.setsockopt, socket.IPPROTO_TCP, 13, algorithm.encode())
        client.sendall(b"x" * 50000)
        peer.recv(60000)
        client.getsockopt(socket.IPPROTO_TCP, 11, 300)
        client.setsockopt(socket.IPPROTO_TCP, 1, 1)
        client.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
        attempt(client.send, b"z" * 9000, 0x4000000)
        client.send(b"o", socket.MSG_OOB)
        client.shutdown(1)
        peer.recv(100000)
        peer.close()
        client.close()
    address = struct.pack("=H2x4s120x", 2, socket.inet_aton("127.0.0.1"))
    signed = socket.socket()
    attempt(signed.setsockopt, 6, TCP_MD5SIG, address + struct.pack("=BBHI80s", 0, 0, 5, 0, b"k" * 80))
    server = socket.create_server(LOOPBACK)
    server.setsockopt(6, 23, 5)
    attempt(socket.socket().sendto, b"x", 0x20000000, server.getsockname())


if __name__ == "__main__":
    for part in (every_family, local, sctp, dccp, vsock, tipc, rds, smc, tls, crypto, packet, qrtr):
        attempt(part)
    attempt(multicast)
    attempt(tcp)
