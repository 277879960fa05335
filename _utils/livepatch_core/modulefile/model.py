"""What a module file says, as values. Needs nothing but the standard library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from livepatch_core.words import Word


class Maker(Word):
    """Which tool laid out the livepatch tables."""

    KPATCH = "kpatch"
    KLP_BUILD = "klp-build"
    HAND = "hand"  # static klp_patch, klp_object and klp_func tables
    OURS = "ours"  # the same tables, and it records the kernel builds it was made for


@dataclass(frozen=True)
class Function:
    """A function to be replaced; ``sympos`` 0: its name is unique in the object, n: the n-th of that name."""

    name: str
    sympos: int


@dataclass(frozen=True)
class PatchedObject:
    """``vmlinux`` or a module, what is replaced in it, and which callbacks it has (``pre_patch`` ...)."""

    name: str
    functions: tuple[Function, ...]
    callbacks: tuple[str, ...] = ()


@dataclass(frozen=True, order=True)
class KlpSymbol:
    """A symbol that the kernel resolves for the livepatch when ``section_object`` is patched."""

    section_object: str
    object: str
    name: str
    sympos: int


@dataclass(frozen=True)
class State:
    """A livepatch system state (Documentation/livepatch/system-state.rst)."""

    id: int
    version: int


@dataclass(frozen=True)
class Signature:
    """The appended signature. ``signer``: common name of the certificate's issuer, "" where the signature
    names the key only; ``key_id``: the certificate's serial number or subject key identifier, hex;
    ``hash``: ``sha256`` ... (an OID in dots where unknown); ``id_type``: ``PKCS#7``, or ``PGP`` and
    ``X.509`` (old kernels, no details); ``identifier``: what the kernel looks the key up by, hex. Reading it
    proves nothing: only the kernel's keyring decides whether it is trusted.
    """

    signer: str
    key_id: str
    hash: str
    id_type: str
    identifier: str = ""


@dataclass(frozen=True)
class ModuleFile:
    """Everything read from one module file; ``sha256`` and ``size`` are of the bytes as stored.

    name: as the kernel will show it. machine: as ``uname -m`` prints it. release: first word of
    ``vermagic``. build_id: of the module itself. built_for: object -> GNU build-id (hex) of what it was
    made for, empty when it records none. proven: objects whose builder verified every function's position in
    that build (modinfo ``positions=<object>``). replace: None where it is decided by code, not data (kpatch,
    klp-build). imports: undefined symbols that the kernel resolves from exports. versions: symbol -> CRC.
    shadow: it uses shadow variables.
    """

    name: str
    livepatch: bool
    machine: str
    vermagic: str
    release: str
    depends: tuple[str, ...]
    modinfo: tuple[tuple[str, str], ...]
    build_id: str | None
    built_for: Mapping[str, str] = field(hash=False)
    built_for_release: str | None
    objects: tuple[PatchedObject, ...]
    replace: bool | None
    states: tuple[State, ...]
    klp_symbols: tuple[KlpSymbol, ...]
    imports: tuple[str, ...]
    versions: Mapping[str, int] = field(hash=False)
    shadow: bool
    signature: Signature | None
    size: int
    sha256: str
    compression: str
    maker: Maker | None
    proven: frozenset[str] = frozenset()
