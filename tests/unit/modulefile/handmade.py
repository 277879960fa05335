"""A writer of minimal modules with static livepatch tables, for layouts that no kernel at hand has.

It writes what the compiler would: .data with the tables, .rela.data for their pointers, a symbol for each.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from livepatch_core.modulefile.model import PatchedObject, State

CALLBACKS = ("pre_patch", "post_patch", "pre_unpatch", "post_unpatch")
PROGBITS, SYMTAB, STRTAB, RELA = 1, 2, 3, 4
WRITE, ALLOC, EXECINSTR = 1, 2, 4
MACHINES = {"x86_64": (62, 1), "aarch64": (183, 257), "ppc64le": (21, 38), "s390x": (22, 22)}
TEXT, STRINGS, DATA, MODINFO, THIS_MODULE = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Layout:
    """The sizes of the kernel's structures, and whether klp_patch has ``states``."""

    func: int = 152
    object: int = 168
    patch: int = 200
    states: bool = True
    name: int = 24
    machine: str = "x86_64"


@dataclass
class Writer:
    layout: Layout
    order: str = "<"
    strings: bytearray = field(default_factory=lambda: bytearray(b"\0"))
    data: bytearray = field(default_factory=bytearray)
    relocations: list[tuple[int, int, int]] = field(default_factory=list)  # offset, section symbol, addend
    variables: list[tuple[str, int, int]] = field(default_factory=list)  # name, offset, size

    def text(self, value: str) -> int:
        self.strings += value.encode() + b"\0"
        return len(self.strings) - len(value.encode()) - 1

    def variable(self, name: str, size: int) -> int:
        start = len(self.data)
        self.data += bytes(size)
        self.variables.append((name, start, size))
        return start

    def word(self, at: int, value: int, form: str = "Q") -> None:
        struct.pack_into(self.order + form, self.data, at, value)

    def point(self, at: int, section: int, addend: int) -> None:
        self.relocations.append((at, section, addend))

    def functions(self, patched: PatchedObject) -> int:
        start = self.variable("funcs", self.layout.func * (len(patched.functions) + 1))
        for number, function in enumerate(patched.functions):
            at = start + number * self.layout.func
            self.point(at, STRINGS, self.text(function.name))
            self.point(at + 8, TEXT, 0)
            self.word(at + 16, function.sympos)
        return start

    def objects(self, patched: tuple[PatchedObject, ...]) -> int:
        start = self.variable("objs", self.layout.object * (len(patched) + 1))
        for number, item in enumerate(patched):
            at = start + number * self.layout.object
            if item.name != "vmlinux":
                self.point(at, STRINGS, self.text(item.name))
            self.point(at + 8, DATA, self.functions(item))
            for callback in item.callbacks:
                self.point(at + 16 + 8 * CALLBACKS.index(callback), TEXT, 0)
        return start

    def patch(self, patched: tuple[PatchedObject, ...], replace: bool, states: tuple[State, ...]) -> None:
        start = self.variable("patch", self.layout.patch)
        self.point(start, THIS_MODULE, 0)
        self.point(start + 8, DATA, self.objects(patched))
        if states:
            table = self.variable("states", 24 * (len(states) + 1))
            for number, state in enumerate(states):
                self.word(table + 24 * number, state.id)
                self.word(table + 24 * number + 8, state.version, "I")
            self.point(start + 16, DATA, table)
        self.data[start + (24 if self.layout.states else 16)] = replace

    def elf(self, name: str) -> bytes:
        machine, pointer = MACHINES[self.layout.machine]
        symbols, names = self._symbols()
        rela = b"".join(
            struct.pack(self.order + "QQq", at, symbol << 32 | pointer, addend)
            for at, symbol, addend in self.relocations
        )
        modinfo = f"livepatch=Y\0name={name}\0vermagic=9.9.9 SMP \0".encode()
        sections = [
            ("", 0, 0, b"", 0, 0),
            (".text", PROGBITS, ALLOC | EXECINSTR, b"\xc3" * 16, 0, 0),
            (".rodata.str1.1", PROGBITS, ALLOC, bytes(self.strings), 0, 0),
            (".data", PROGBITS, WRITE | ALLOC, bytes(self.data), 0, 0),
            (".modinfo", PROGBITS, ALLOC, modinfo, 0, 0),
            (".gnu.linkonce.this_module", PROGBITS, ALLOC, self._this_module(name), 0, 0),
            (".rela.data", RELA, 0, rela, 7, DATA),
            (".symtab", SYMTAB, 0, symbols, 8, 5),
            (".strtab", STRTAB, 0, names, 0, 0),
        ]
        return self._file(machine, sections)

    def _this_module(self, name: str) -> bytes:
        return bytes(self.layout.name) + name.encode() + bytes(64)

    def _symbols(self) -> tuple[bytes, bytes]:
        """Section symbols 1 to 4, numbered as their sections; __this_module, number 5; the variables."""
        names = bytearray(b"\0__this_module\0")
        form = self.order + "IBBHQQ"
        table = [struct.pack(form, 0, 0, 0, 0, 0, 0)]
        table += [struct.pack(form, 0, 3, 0, section, 0, 0) for section in range(1, 5)]
        table.append(struct.pack(form, 1, 0x11, 0, THIS_MODULE, 0, 64))
        for name, start, size in self.variables:
            table.append(struct.pack(form, len(names), 1, 0, DATA, start, size))
            names += name.encode() + b"\0"
        return b"".join(table), bytes(names)

    def _file(self, machine: int, sections: list[tuple[str, int, int, bytes, int, int]]) -> bytes:
        names = b"\0".join(section[0].encode() for section in sections) + b"\0.shstrtab\0"
        sections = [*sections, (".shstrtab", STRTAB, 0, names, 0, 0)]
        body = bytearray(64)
        headers, name_at = [], 0
        for name, kind, flags, data, link, info in sections:
            headers.append(
                struct.pack(
                    self.order + "IIQQQQIIQQ", name_at, kind, flags, 0, len(body), len(data), link, info, 8, 0
                )
            )
            name_at += len(name) + 1
            body += data + bytes(-len(data) % 8)
        ident = b"\x7fELF\x02" + (b"\x01" if self.order == "<" else b"\x02") + b"\x01" + bytes(9)
        fields = (1, machine, 1, 0, 0, len(body), 0, 64, 0, 0, 64, len(sections), len(sections) - 1)
        body[:64] = ident + struct.pack(self.order + "HHIQQQIHHHHHH", *fields)
        return bytes(body) + b"".join(headers)


def module(
    patched: tuple[PatchedObject, ...],
    *,
    replace: bool = True,
    states: tuple[State, ...] = (),
    layout: Layout | None = None,
    name: str = "lp_handmade",
) -> bytes:
    """A module whose klp_patch says exactly this."""
    layout = layout or Layout()
    writer = Writer(layout, ">" if layout.machine == "s390x" else "<")
    writer.patch(patched, replace, states)
    return writer.elf(name)
