"""Runs in a guest: attaches a BPF program that does nothing to the entry of a kernel function, and stays.

The numbers are the kernel's ABI: include/uapi/linux/bpf.h and btf.h.
"""

import ctypes
import os
import signal
import struct
import sys
from pathlib import Path

SYS_BPF = 321  # x86-64
PROG_LOAD, RAW_TRACEPOINT_OPEN = 5, 17
PROG_TYPE_TRACING, TRACE_FENTRY = 26, 24
KIND_FUNC = 12
# Bytes after the 12-byte header of a BTF type, by kind: fixed, and per element of its vlen.
EXTRA = {
    1: (4, 0),
    3: (12, 0),
    4: (0, 12),
    5: (0, 12),
    6: (0, 8),
    13: (0, 8),
    14: (4, 0),
    15: (0, 12),
    17: (4, 0),
    19: (0, 12),
}

libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, 144)
    result = libc.syscall(SYS_BPF, command, buffer, len(buffer))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"bpf command {command}")
    return result


def function_id(name):
    """The BTF id of a kernel function."""
    data = Path("/sys/kernel/btf/vmlinux").read_bytes()
    header, types_at, types_size, strings_at, _ = struct.unpack_from("=IIIII", data, 4)
    position, end, strings = header + types_at, header + types_at + types_size, header + strings_at
    number = 1
    while position < end:
        name_at, info, _ = struct.unpack_from("=III", data, position)
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        start = strings + name_at
        if kind == KIND_FUNC and data[start : data.index(b"\0", start)] == name.encode():
            return number
        fixed, each = EXTRA.get(kind, (0, 0))
        position += 12 + fixed + each * count
        number += 1
    raise SystemExit(f"no function {name} in the kernel's BTF")


code = ctypes.create_string_buffer(struct.pack("=BBhi", 0xB7, 0, 0, 0) + struct.pack("=BBhi", 0x95, 0, 0, 0))
licence = ctypes.create_string_buffer(b"GPL")
load = bytearray(144)
struct.pack_into("=IIQQ", load, 0, PROG_TYPE_TRACING, 2, ctypes.addressof(code), ctypes.addressof(licence))
struct.pack_into("=I", load, 68, TRACE_FENTRY)  # expected_attach_type
struct.pack_into("=I", load, 108, function_id(sys.argv[1]))  # attach_btf_id
program = bpf(PROG_LOAD, bytes(load))
link = bpf(RAW_TRACEPOINT_OPEN, struct.pack("=QI", 0, program))
Path("/run/fentry-attached").touch()
signal.pause()
