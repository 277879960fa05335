"""The plain facts in a module's own sections: modinfo, name, build-id, symbol versions."""

from __future__ import annotations

import re
import struct

from livepatch_core.modulefile.elf import Elf
from livepatch_core.modulefile.refusal import refusal

THIS_MODULE = ".gnu.linkonce.this_module"
# MODULE_NAME_LEN is 64 - sizeof(unsigned long), and 64 in newer kernels.
NAME = re.compile(rb"\0*([A-Za-z0-9_.+-]{1,63})\0")
BUILD_ID = re.compile(r"[0-9a-f]{16,128}")
NT_GNU_BUILD_ID = 3
VERSION_SIZE = 64  # struct modversion_info: unsigned long crc; char name[64 - sizeof(unsigned long)]


def read_modinfo(elf: Elf) -> tuple[tuple[str, str], ...]:
    """Every ``key=value`` of .modinfo in file order; keys repeat."""
    section = elf.by_name.get(".modinfo")
    if section is None:
        raise refusal("it has no .modinfo section: it is an object file, not a module")
    words = elf.data(section).decode("utf-8", "backslashreplace").split("\0")
    pairs = (word.partition("=") for word in words if word)
    return tuple((key, value) for key, _, value in pairs)


def first(modinfo: tuple[tuple[str, str], ...], key: str) -> str | None:
    """The first value of a key: the one the kernel takes."""
    return next((value for name, value in modinfo if name == key), None)


def read_name(elf: Elf, modinfo: tuple[tuple[str, str], ...]) -> str:
    """The name from ``struct module``, which is what the kernel uses and shows.

    In the file the structure is zero but for its name (state is MODULE_STATE_LIVE, 0; the list is empty;
    init and exit are relocations), so the name is its first text: at offset 24 on 64-bit kernels today, and
    found wherever it moves.
    """
    section = elf.by_name.get(THIS_MODULE)
    match = NAME.match(elf.data(section)) if section else None
    if match is None:
        raise refusal(f"it has no module name in {THIS_MODULE}: it is an object file, not a module")
    name = match.group(1).decode("ascii")
    if first(modinfo, "name") not in (None, name):
        raise refusal(f"it has two names, {name} and {first(modinfo, 'name')} (modinfo)")
    return name


def read_build_id(elf: Elf) -> str | None:
    """The module's own GNU build-id, hex."""
    section = elf.by_name.get(".note.gnu.build-id")
    if section is None:
        return None
    note = elf.data(section)
    if len(note) < 16:
        raise refusal("its build-id note is damaged")
    name_size, size, kind = struct.unpack_from(elf.order + "III", note)
    value = note[16 : 16 + size]
    if (name_size, kind, note[12:16]) != (4, NT_GNU_BUILD_ID, b"GNU\0") or not value or len(value) != size:
        raise refusal("its build-id note is damaged")
    return value.hex()


def read_versions(elf: Elf) -> dict[str, int]:
    """CRC of each symbol the module expects, in the classic form and in the extended one (kernel 6.14 and
    newer).
    """
    versions: dict[str, int] = {}
    classic = elf.by_name.get("__versions")
    if classic is not None:
        if classic.size % VERSION_SIZE:
            raise refusal("its __versions section does not hold whole entries")
        for crc, name in struct.iter_unpack(elf.order + "Q56s", elf.data(classic)):
            versions[_text(name)] = crc
    crcs, names = elf.by_name.get("__version_ext_crcs"), elf.by_name.get("__version_ext_names")
    if crcs is not None and names is not None:
        texts = elf.data(names).split(b"\0")
        if crcs.size % 4 or crcs.size // 4 > len(texts):
            raise refusal("its extended symbol versions are damaged")
        values = struct.iter_unpack(elf.order + "I", elf.data(crcs))
        versions.update((_text(name), crc) for name, (crc,) in zip(texts, values))
    return versions


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode("ascii", "backslashreplace")


def read_built_for(modinfo: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """``built_for=<object>:<build-id>``: which builds of the kernel and of its modules this was made for.

    A record that cannot be read refuses the file: it must never pass as "records none" or as another build.
    """
    built_for: dict[str, str] = {}
    for value in (value for key, value in modinfo if key == "built_for"):
        name, _, build_id = value.rpartition(":")
        if not name or not BUILD_ID.fullmatch(build_id) or len(build_id) % 2:
            raise refusal(f"its record built_for={value} is not an object and a build-id")
        if built_for.setdefault(name, build_id) != build_id:
            raise refusal(f"it records two different builds of {name} it was made for")
    return built_for
