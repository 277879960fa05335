"""What publishing writes about a module, and what a level has to keep of the one below. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from livepatch_core.catalog.author import Author, is_utf8
from livepatch_core.catalog.model import Fix, Level, LevelStatus
from livepatch_core.catalog.read import MODULE_NAME, SHA256
from livepatch_core.errors import LivepatchError
from livepatch_core.modulefile.model import ModuleFile
from livepatch_core.words import Kind

CVE = re.compile(r"CVE-\d{4}-\d{1,19}")
SUFFIX = {"none": "", "xz": ".xz", "gz": ".gz", "zst": ".zst"}


@dataclass(frozen=True)
class Publication:
    """What only the publisher can say. level: None takes the next free number. kernel_build: for modules
    that do not record what they were made for. source_sha256: of the diff it was built from. loss: why the
    level lacks functions or fixes of the one below. version: ``uname -v`` of the kernel build, for people.
    """

    author: Author
    level: int | None = None
    kernel_build: str | None = None
    fixes: tuple[Fix, ...] = ()
    notes: str = ""
    loss: str = ""
    source_sha256: str = ""
    version: str = ""


def file_name(module: ModuleFile) -> str:
    """A file is never overwritten by another: its name carries the digest of what is in it."""
    return f"{module.name}-{module.sha256[:12]}.ko{SUFFIX[module.compression]}"


def functions_of(module: ModuleFile) -> dict[str, list[str]]:
    """Object -> functions; the n-th of several of one name is written as sysfs shows it, ``name,n``."""
    return {
        one.name: sorted(f.name if f.sympos == 0 else f"{f.name},{f.sympos}" for f in one.functions)
        for one in module.objects
    }


def fields_of(module: ModuleFile) -> dict[str, Any]:
    """The fields of an entry that repeat what the module says: what verify compares."""
    signer = module.signature
    return {
        "name": module.name,
        "sha256": module.sha256,
        "size": module.size,
        "replace": module.replace,
        "functions": functions_of(module),
        "built_for": dict(module.built_for),
        "callbacks": any(one.callbacks for one in module.objects),
        "shadow": module.shadow,
        "states": [{"id": state.id, "version": state.version} for state in module.states],
        "signer": None if signer is None else {"name": signer.signer, "key_id": signer.key_id},
    }


def new_entry(module: ModuleFile, wanted: Publication) -> dict[str, Any]:
    """The entry of a level in testing."""
    document = {"status": str(LevelStatus.TESTING), "module": file_name(module), **fields_of(module)}
    document["fixes"] = fixes_document(wanted.fixes)
    for key in ("notes", "loss", "source_sha256"):
        if getattr(wanted, key):
            document[key] = getattr(wanted, key)
    document["history"] = [wanted.author.record("publish")]
    return {key: value for key, value in document.items() if value is not None}


def fixes_document(fixes: Iterable[Fix]) -> list[dict[str, str]]:
    """As they are written."""
    return [{key: value for key, value in vars(fix).items() if value} for fix in fixes]


def check_publishable(module: ModuleFile) -> None:
    """Raises LivepatchError (not-livepatch, module-format)."""
    if not module.livepatch or not any(one.functions for one in module.objects):
        raise LivepatchError(
            Kind.NOT_LIVEPATCH,
            f"Module {module.name} is not a livepatch, or patches nothing; nothing was published.",
            remedy="Publish the module that livepatch.build made.",
        )
    if not MODULE_NAME.fullmatch(module.name):
        raise LivepatchError(
            Kind.MODULE_FORMAT,
            f"The module's name {module.name!r} has other characters than letters, digits and _; nothing "
            "was published.",
            remedy="Build it under another name.",
        )


def kernel_build_of(module: ModuleFile, given: str | None) -> str:
    """The kernel build a module is for; what it records itself cannot be overruled."""
    recorded = module.built_for.get("vmlinux")
    if recorded and given and recorded != given:
        raise LivepatchError(
            Kind.KERNEL_MISMATCH,
            f"Module {module.name} was built for kernel build {recorded}, not {given}; nothing was "
            "published.",
            remedy="Leave kernel_build out, or build the module for that kernel.",
        )
    build_id = recorded or given
    if not build_id:
        raise LivepatchError(
            Kind.KERNEL_MISMATCH,
            f"Module {module.name} does not record the kernel build it was made for; nothing was published.",
            remedy="Give kernel_build=, the GNU build-id of the kernel image; hosts will still refuse it "
            "unless told to override the check.",
        )
    return build_id


def missing(lower: Level, functions: Mapping[str, Iterable[str]], fixes: Iterable[Fix]) -> list[str]:
    """What a level lacks of the one below: functions as ``object:name``, fixes by their CVE."""
    lost = [
        f"{name}:{function}"
        for name, those in sorted(lower.functions.items())
        for function in sorted(set(those) - set(functions.get(name, ())))
    ]
    named = {fix.cve for fix in fixes}
    return lost + sorted(fix.cve for fix in lower.fixes if fix.cve and fix.cve not in named)


def parse_fixes(value: object) -> tuple[Fix, ...]:
    """``CVE-2026-1,CVE-2026-2``, or a list of such or of mappings {cve, severity, url, summary}.

    Raises LivepatchError (argument).
    """
    if value is None:
        return ()
    items = [one for one in value.split(",") if one.strip()] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        raise _bad(f"fixes is {value!r}, not a list")
    return tuple(_fix(item) for item in items)


def _fix(item: object) -> Fix:
    fields = {"cve": item.strip()} if isinstance(item, str) else item
    if not isinstance(fields, Mapping) or not all(isinstance(one, str) for one in fields.values()):
        raise _bad(f"the fix {item!r} is neither a CVE nor a mapping of texts")
    unknown = sorted(set(fields) - {"cve", "severity", "url", "summary"}, key=str)
    if unknown:
        raise _bad(f"the fix {item!r} has a field {unknown[0]!r}; there are cve, severity, url and summary")
    if not all(is_utf8(one) for one in fields.values()):
        raise _bad(f"the fix {item!r} is not UTF-8")
    fix = Fix(**{"cve": "", **fields})
    if fix.cve and not CVE.fullmatch(fix.cve):
        raise _bad(f"{fix.cve!r} is not a CVE (CVE-2026-12345)")
    if not fix.cve and not fix.summary:
        raise _bad(f"the fix {item!r} has neither cve nor summary")
    return fix


def parse_digest(value: object) -> str:
    """A SHA-256 in hex, or ""; raises LivepatchError (argument)."""
    if value is None:
        return ""
    if not isinstance(value, str) or not SHA256.fullmatch(value):
        raise _bad(f"the digest of the source diff is {value!r}, not a SHA-256 in hex")
    return value


def _bad(text: str) -> LivepatchError:
    return LivepatchError(
        Kind.ARGUMENT,
        f"{text[0].upper()}{text[1:]}; nothing was published.",
        remedy="salt-run -d livepatch_catalog.publish shows its arguments.",
    )
