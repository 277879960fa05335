"""Headers that a directory's Makefile makes and which the headers package does not hold.

SELinux's ``flask.h`` is written by a program (``scripts/selinux/genheaders``, security/selinux/Makefile),
which is compiled from the same source tree, patched or not; kbuild runs it. Those of the others kbuild makes
by itself. It puts them into the build directory.
"""

from __future__ import annotations

from pathlib import Path

from livepatch_core.build import tree
from livepatch_core.build.commands import run
from livepatch_core.build.refusals import Refusal, Refused

SELINUX = "security/selinux"
DIRECTORIES = (SELINUX, "security/apparmor", "security/tomoyo", "drivers/gpu/drm/radeon")
_PROGRAM = "scripts/selinux/genheaders/genheaders"
# The directories above it, each of which may be a link into the kbuild tree, which is only read.
_PLACES = ("scripts", "scripts/selinux", "scripts/selinux/genheaders")
_INCLUDES = ("include/uapi", "include", "security/selinux/include")  # as the program's own Makefile says


def flags(objects: Path, path: str) -> str:
    """What the compiler needs to find the generated headers of ``path``, "" if it has none: with ``M=``
    kbuild does not look in the build directory.
    """
    found = next((one for one in DIRECTORIES if path.startswith(f"{one}/")), "")
    return f" -I{objects}/{found}" if found else ""


def provide(source: Path, objects: Path, compiler: str) -> None:
    """Put the program into the build directory ``objects``. Raises ``Refused`` (TOOLCHAIN)."""
    program = objects / _PROGRAM
    if program.exists():
        return
    for place in _PLACES:
        tree.open_directory(objects / place)
    program.parent.mkdir(parents=True, exist_ok=True)
    includes = [f"-I{source / include}" for include in _INCLUDES]
    done = run([compiler, *includes, "-o", str(program), str(source / f"{_PROGRAM}.c")], cwd=objects)
    if done.status:
        raise Refused(
            Refusal.TOOLCHAIN,
            f"The program that writes SELinux's headers does not compile: {done.err.strip()[:300]}",
            file=f"{_PROGRAM}.c",
            remedy="Install the C library's headers (libc6-dev) on the builder.",
        )
