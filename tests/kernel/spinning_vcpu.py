"""Runs in a guest: a virtual machine whose only processor spins in guest mode, on CPU 1, until killed."""

import ctypes
import fcntl
import mmap
import os
import struct

# include/uapi/linux/kvm.h
CREATE_VM, CREATE_VCPU, RUN = 0xAE01, 0xAE41, 0xAE80
SET_USER_MEMORY_REGION, GET_SREGS, SET_SREGS, SET_REGS = 0x4020AE46, 0x8138AE83, 0x4138AE84, 0x4090AE82
SPIN = b"\xeb\xfe"  # jmp to itself
SREGS_SIZE, CS_BASE, CS_SELECTOR = (
    312,
    0,
    12,
)  # struct kvm_sregs begins with cs: u64 base, u32 limit, u16 selector

os.sched_setaffinity(0, {1})
kvm = os.open("/dev/kvm", os.O_RDWR)
machine = fcntl.ioctl(kvm, CREATE_VM, 0)
memory = mmap.mmap(-1, 4096)
memory[:2] = SPIN
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
fcntl.ioctl(machine, SET_USER_MEMORY_REGION, struct.pack("=IIQQQ", 0, 0, 0x1000, 4096, address))
vcpu = fcntl.ioctl(machine, CREATE_VCPU, 0)
special = bytearray(SREGS_SIZE)
fcntl.ioctl(vcpu, GET_SREGS, special)
struct.pack_into("=Q", special, CS_BASE, 0)
struct.pack_into("=H", special, CS_SELECTOR, 0)
fcntl.ioctl(vcpu, SET_SREGS, special)
registers = struct.pack("=16Q", *[0] * 16) + struct.pack(
    "=QQ", 0x1000, 2
)  # rip, rflags: the bit that is always 1
fcntl.ioctl(vcpu, SET_REGS, registers)
while True:
    try:
        fcntl.ioctl(vcpu, RUN, 0)
    except InterruptedError:
        pass  # the kernel's fake signal: back into the guest, as every hypervisor does
