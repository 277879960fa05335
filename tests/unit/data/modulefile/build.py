"""Rebuild the modules in this folder from src/ (the tests use the committed files and need no compiler).

    python3 build.py OUT 6.1=/usr/src/linux-headers-6.1.0-56-amd64 [6.12=/usr/src/linux-headers-6.12...]

needs gcc-12, make, binutils, openssl, zstd and the kernel headers named. The signing key is made for the
run and thrown away: signatures differ from run to run, everything the tests compare does not.
"""

from __future__ import annotations

import lzma
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "src"
MODULES = ("lp_one", "lp_full", "plain")
SYMBOLS = {
    "klp_sym_a": ".klp.sym.vmlinux.seq_show.isra.0,1",
    "klp_sym_b": ".klp.sym.vmlinux.nr_files,0",
    "klp_sym_c": ".klp.sym.xfs.xfs_globals,1",
    "klp_sym_d": ".klp.sym.nf_tables.nft_gc.part.0,2",
}
SHN_LIVEPATCH = 0xFF20
RELA_FLAGS = 0x2 | 0x40 | 0x100000  # ALLOC, INFO_LINK, RELA_LIVEPATCH
SHDR = struct.Struct("<IIQQQQIIQQ")
SYM = struct.Struct("<IBBHQQ")
RELA = struct.Struct("<QQq")


def run(*command: str | Path, cwd: Path | None = None) -> None:
    subprocess.run([str(word) for word in command], cwd=cwd, check=True)


def compile_modules(headers: Path, into: Path) -> None:
    for source in [*(SOURCES / f"{name}.c" for name in MODULES), SOURCES / "Kbuild"]:
        shutil.copy(source, into)
    run(
        "make",
        "-s",
        "-C",
        headers,
        f"M={into}",
        "CC=gcc-12",
        "KBUILD_MODPOST_WARN=1",
        "CONFIG_DEBUG_INFO_BTF_MODULES=",
    )
    renames = [f"--redefine-sym={old}={new}" for old, new in SYMBOLS.items()]
    for name in MODULES:
        run("objcopy", "--strip-debug", *renames, into / f"{name}.ko")


def sections_of(image: bytearray) -> tuple[list[list[int]], int]:
    (offset,) = struct.unpack_from("<Q", image, 40)
    count, names = struct.unpack_from("<HH", image, 60)
    return [list(SHDR.unpack_from(image, offset + 64 * n)) for n in range(count)], names


def cstring(image: bytes, offset: int) -> str:
    return image[offset : image.index(b"\0", offset)].decode()


def to_livepatch(image: bytearray) -> bytearray:
    """Mark the .klp.sym symbols and move their relocations into .klp.rela sections, one per object and
    section.
    """
    headers, names = sections_of(image)
    symtab = next(header for header in headers if header[1] == 2)
    strings = headers[symtab[6]][4]
    objects: dict[int, str] = {}
    for number in range(symtab[5] // 24):
        at = symtab[4] + 24 * number
        fields = list(SYM.unpack_from(image, at))
        name = cstring(image, strings + fields[0])
        if name.startswith(".klp.sym."):
            objects[number] = name.split(".")[3]
            fields[3] = SHN_LIVEPATCH
            SYM.pack_into(image, at, *fields)
    moved: dict[tuple[str, int], bytes] = {}
    for header in [header for header in headers if header[1] == 4]:
        entries = [RELA.unpack_from(image, header[4] + 24 * n) for n in range(header[5] // 24)]
        stay = [entry for entry in entries if entry[1] >> 32 not in objects]
        for entry in entries:
            owner = objects.get(entry[1] >> 32)
            if owner:
                key = (owner, header[7])
                moved[key] = moved.get(key, b"") + RELA.pack(*entry)
        image[header[4] : header[4] + 24 * len(stay)] = b"".join(RELA.pack(*entry) for entry in stay)
        header[5] = 24 * len(stay)
    return append_sections(image, headers, names, moved, headers.index(symtab))


def append_sections(
    image: bytearray, headers: list[list[int]], names: int, moved: dict[tuple[str, int], bytes], symtab: int
) -> bytearray:
    table = bytearray(image[headers[names][4] : headers[names][4] + headers[names][5]])
    for (owner, target), data in moved.items():
        target_name = cstring(image, headers[names][4] + headers[target][0])
        image += b"\0" * (-len(image) % 8)
        headers.append([len(table), 4, RELA_FLAGS, 0, len(image), len(data), symtab, target, 8, 24])
        table += f".klp.rela.{owner}.{target_name}".encode() + b"\0"
        image += data
    headers[names][4:6] = [len(image), len(table)]
    image += table + b"\0" * (-len(table) % 8)
    struct.pack_into("<Q", image, 40, len(image))
    struct.pack_into("<H", image, 60, len(headers))
    for header in headers:
        image += SHDR.pack(*header)
    return image


def make_key(into: Path) -> tuple[Path, Path]:
    key, certificate = into / "key.pem", into / "cert.pem"
    run(
        *("openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", "36500"),
        *("-set_serial", "0x00f1e2d3c4b5a69788", "-subj", "/O=Example/CN=Example module signing key"),
        *("-keyout", key, "-out", certificate),
    )
    return key, certificate


def store(module: Path, out: Path, name: str) -> None:
    # --check=crc32: what the kernel's own xz decoder and kmod expect of compressed modules.
    data = lzma.compress(module.read_bytes(), check=lzma.CHECK_CRC32, preset=9)
    (out / f"{name}.ko.xz").write_bytes(data)


def build_for(release: str, headers: Path, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        compile_modules(headers, work)
        full = work / "lp_full.ko"
        full.write_bytes(to_livepatch(bytearray(full.read_bytes())))
        for name in MODULES:
            store(work / f"{name}.ko", out, f"{name}-{release}")
        key, certificate = make_key(work)
        signed = work / "signed.ko"
        run(headers / "scripts/sign-file", "sha512", key, certificate, work / "lp_one.ko", signed)
        store(signed, out, f"lp_one-{release}-signed")
        run("zstd", "-q", "-f", work / "lp_one.ko", "-o", out / f"lp_one-{release}.ko.zst")


def build_standins(out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for source in sorted(SOURCES.glob("standin_*.c")):
            made = Path(folder) / f"{source.stem}.ko"
            flags = (
                "-c",
                "-O1",
                "-fno-pic",
                "-mcmodel=kernel",
                "-ffunction-sections",
                "-fno-toplevel-reorder",
            )
            run("gcc-12", *flags, "-o", made, source)
            store(made, out, source.stem)


def main(out: Path, releases: list[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for word in releases:
        release, _, headers = word.partition("=")
        build_for(release, Path(headers), out)
    build_standins(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
