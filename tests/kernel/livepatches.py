"""The kernel modules of the kernel tests: what there is, and how it is built for a kernel of the lab.

``lp_*`` are live patches, ``lab_*`` are ordinary modules that they patch, need or collide with; the first
comment of each C file in ``modules/`` says what it is for.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from elftools.elf.elffile import ELFFile

from lab import bare, kbuild
from lab.kernels import Kernel
from livepatch_core.kernel import notes

SOURCES = Path(__file__).parent / "modules"
NAMES = tuple(sorted(path.stem for path in SOURCES.glob("*.c")))
TARGETS = tuple(name for name in NAMES if name.startswith("lab_"))
# The modules that live patches import symbols from: kbuild wants to see both at once.
EXPORTING = ("lab_provider",)


@dataclass(frozen=True)
class MadeFor:
    """What live patches record about what they were made for; None records nothing.

    release and build_id: of the kernel; variant: a word that makes the same modules with other content;
    targets: whether the build-ids of the target modules' files, made in the same run, are recorded.
    """

    release: str | None = None
    build_id: str | None = None
    targets: bool = True
    variant: str | None = None


@functools.cache
def made_for(kernel: Kernel) -> MadeFor:
    """What is true of ``kernel``: its build-id is read from the running kernel, in a bare guest."""
    with bare.start(kernel) as guest:
        build_id = notes.build_id(guest.get("/sys/kernel/notes"))
    assert build_id is not None, "Debian links its kernels with a build-id"
    return MadeFor(kernel.release, build_id)


def unrecorded(kernel: Kernel) -> dict[str, Path]:
    """All modules, as foreign tools make them: without a word about the build they were made for."""
    return build(kernel, MadeFor(targets=False))


def for_other_build(kernel: Kernel, build_id: str = "0" * 40) -> dict[str, Path]:
    """All modules, recorded for another build of the same release."""
    return build(kernel, replace(made_for(kernel), build_id=build_id))


def rebuilt(kernel: Kernel, name: str) -> Path:
    """One target module with other content, as after an upgrade or from DKMS."""
    return kbuild.build_modules(kernel, sources((name,)), flags="-DLP_VARIANT=rebuilt")[name]


def build(kernel: Kernel, recorded: MadeFor | None = None) -> dict[str, Path]:
    """The ``.ko`` of every name in ``NAMES``, in two runs of kbuild: the targets first, as the live patches
    record the build-ids of their files. Cached by content."""
    recorded = made_for(kernel) if recorded is None else recorded
    only_variant = MadeFor(targets=False, variant=recorded.variant)
    targets = kbuild.build_modules(kernel, sources(TARGETS), flags=" ".join(_flags(only_variant, {})))
    patches = tuple(name for name in NAMES if name not in TARGETS)
    flags = _flags(recorded, {name: file_build_id(path.read_bytes()) for name, path in targets.items()})
    built = kbuild.build_modules(kernel, sources((*patches, *EXPORTING)), flags=" ".join(flags))
    return {**built, **targets}


def sources(names: tuple[str, ...]) -> dict[str, str]:
    """The C files of these modules, and all headers."""
    files = [SOURCES / f"{name}.c" for name in names] + sorted(SOURCES.glob("*.h"))
    return {path.name: path.read_text() for path in files}


def _flags(recorded: MadeFor, targets: dict[str, str]) -> list[str]:
    macros = {
        "LP_RELEASE": recorded.release,
        "LP_BUILD_ID": recorded.build_id,
        "LP_VARIANT": recorded.variant,
    }
    if recorded.targets:
        macros.update({f"LP_BUILD_ID_{name}": build_id for name, build_id in targets.items()})
    return [f"-D{macro}={value}" for macro, value in macros.items() if value is not None]


def file_build_id(image: bytes) -> str:
    """The build-id of a module file."""
    section = ELFFile(BytesIO(image)).get_section_by_name(".note.gnu.build-id")
    build_id = notes.build_id(section.data())
    assert build_id is not None, "kbuild links modules with a build-id"
    return build_id


def with_other_flags(image: bytes) -> bytes:
    """The module with another word among the flags of its vermagic, which the kernel refuses."""
    return _edited(image, b" SMP ", b" SMQ ")


def with_other_release(image: bytes, release: str) -> bytes:
    """The module as if made for a release whose last digits differ, which the kernel takes (its CRCs fit)."""
    other = release.replace("amd64", "amd46").encode()
    return _edited(image, b"vermagic=" + release.encode(), b"vermagic=" + other)


def _edited(image: bytes, old: bytes, new: bytes) -> bytes:
    """One text in the section of the modinfo replaced by one of the same length."""
    start, length = _modinfo(image)
    part = image[start : start + length]
    assert part.count(old) == 1, f"{old!r} stands {part.count(old)} times in the modinfo"
    assert len(old) == len(new)
    return image[:start] + part.replace(old, new) + image[start + length :]


def _modinfo(image: bytes) -> tuple[int, int]:
    section = ELFFile(BytesIO(image)).get_section_by_name(".modinfo")
    return section["sh_offset"], section["sh_size"]
