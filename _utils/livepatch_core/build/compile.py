"""Compiling single translation units exactly as the distribution did, without building the kernel.

Kbuild's external-module path (``M=``) with a *relative* top-level directory needs no ``prepare`` step,
resolves sources in the full tree, applies every parent directory's flags and runs objtool (facts measured on
6.1 and 6.12). Type information takes the place of debug information and every function and variable gets a
section of its own; neither changes the code.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from livepatch_core.build import assembler, generated, hooks, tree
from livepatch_core.build.commands import run
from livepatch_core.build.objectfile import read_object
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.special import ORC_ADDRESSES
from livepatch_core.build.target import Target, compiler, config_value

# gcc takes a system header's real path where that is shorter, and the headers of trace events count as such:
# the two trees, of which one is made of links, would differ in every __FILE__ there.
_PLAIN = "-g0 -fno-canonical-system-headers"
_SPLIT = f"{_PLAIN} -gbtf -fno-eliminate-unused-debug-types -ffunction-sections -fdata-sections"
# Sources that are objects of another directory's Makefile.
_AMD = "drivers/gpu/drm/amd/"
_ELSEWHERE = {
    "virt/kvm/": "arch/x86/kvm/../../../virt/kvm/",
    "drivers/usb/misc/onboard_usb_hub_pdevs.c": "drivers/usb/core/../misc/onboard_usb_hub_pdevs.c",
    **{f"{_AMD}{part}/": f"{_AMD}amdgpu/../{part}/" for part in ("acp", "amdkfd", "display", "pm")},
}
_MODNAME = re.compile(r"-DKBUILD_MODNAME='\"([^\"']*)\"'")


@dataclass(frozen=True)
class Compiled:
    """A compiled translation unit: its object's bytes, the kernel object that it belongs to, the files it was
    made of.
    """

    path: str
    object: bytes
    owner: str  # "vmlinux", or a module's name, or those of several with a colon between them
    dependencies: frozenset[str]  # absolute paths, links resolved
    command: str


@dataclass(frozen=True)
class Bench:
    """One source tree with its build directory, ready to compile in."""

    target: Target
    source: Path
    objects: Path
    tools: Path  # holds the assembler stand-in, and the directory with the hooks header
    compiler: str


@dataclass(frozen=True)
class Complaint:
    """A unit that did not compile and what the compiler said."""

    path: str
    text: str


def make_bench(target: Target, source: Path, scratch: Path, name: str) -> Bench:
    """A build directory below ``scratch`` for ``source``."""
    tools = scratch / "tools"
    real = shutil.which("as")
    if real is None:
        raise Refused(Refusal.TOOLCHAIN, "The assembler (as) is not installed.", remedy="Install binutils.")
    assembler.install(tools, real)
    hooks.install(tools / "include")
    tree.object_tree(target, scratch / name)
    return Bench(target, source, scratch / name, tools, compiler(target))


def object_path(path: str) -> str:
    """The object that kbuild makes of a source file, as its Makefile names it."""
    for prefix, instead in _ELSEWHERE.items():
        if path.startswith(prefix):
            path = instead + path[len(prefix) :]
    return path[:-2] + ".o"


def _top(path: str) -> str:
    """The directory that is given as M=: the architecture's own Kbuild file lies one level deeper."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "arch" else parts[0]


def make_command(bench: Bench, directory: str, arguments: Sequence[str]) -> list[str]:
    """``make`` for an external module directory against the bench's tree."""
    source = str(bench.source)
    # Since 6.11 the source of a relative M= directory is looked for through VPATH, which M= empties.
    vpath = [] if directory.startswith("/") else [f"VPATH={source}"]
    variables = {
        "O": str(bench.objects),
        "ARCH": "x86",
        "CC": bench.compiler,
        "KERNELRELEASE": bench.target.release,
        "M": directory,
    }
    return [
        *("make", "-s", "-k", "-C", source),
        *(f"{name}={value}" for name, value in variables.items()),
        *vpath,
        *arguments,
    ]


def compile_units(
    bench: Bench, paths: Iterable[str], *, split: bool = True, jobs: int = 1, plain: str = _PLAIN
) -> list[Compiled | Complaint]:
    """Compile each source file (relative to the tree's top), in the given order; failures are values.

    ``split`` False: with the flags ``plain`` and no symbol made global; by default as the distribution's own
    object is, all functions in one section.
    """
    flags = f"{_SPLIT} -B{bench.tools}/ -I{bench.tools}/include" if split else plain
    paths = list(paths)
    groups: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        extra = generated.prepare(bench.source, bench.objects, path, bench.compiler)
        groups.setdefault((_top(object_path(path)), extra), []).append(path)
    errors = {}
    for (top, extra), members in groups.items():
        targets = [object_path(path)[len(top) + 1 :] for path in members]
        for target in targets:
            (bench.objects / top / target).unlink(missing_ok=True)
        options = [
            f"KCFLAGS={flags}{extra}",
            f"HOSTCFLAGS={generated.HOST_FLAGS.format(objects=bench.objects)}",
            "CONFIG_MODVERSIONS=",
            f"-j{jobs}",
        ]
        said = run(make_command(bench, top, [*options, *targets]), cwd=bench.objects).err
        errors.update(dict.fromkeys(members, said))
    return [_collect(bench, path, errors[path]) for path in paths]


def _collect(bench: Bench, path: str, errors: str) -> Compiled | Complaint:
    output = bench.objects / object_path(path)
    if not output.exists():
        return Complaint(path, _relevant(errors, bench.source))
    command = output.with_name(f".{output.name}.cmd").read_text(encoding="utf-8")
    first, _, rest = command.partition("\n")
    name = _MODNAME.search(first)
    owner = name[1].replace("-", "_") if name and re.search(r" -DMODULE\b", first) else "vmlinux"
    if not path.endswith(".S"):
        _delayed_objtool(bench, output, path, modular=owner != "vmlinux")
    return Compiled(
        path, output.read_bytes(), owner, _dependencies(rest, bench.objects), first.partition(" := ")[2]
    )


def _relevant(errors: str, source: Path) -> str:
    """The compiler's lines without make's, with paths as the author knows them; make's if there are no
    others.
    """
    lines = [line for line in errors.replace(f"{source}/", "").split("\n") if line.strip()]
    return "\n".join([line for line in lines if not line.startswith("make")] or lines)


def _dependencies(text: str, objects: Path) -> frozenset[str]:
    """The files of a fixdep .cmd file (the $(wildcard ...) lines are configuration, not files)."""
    found: set[str] = set()
    known: dict[str, str] = {}
    for word in text.partition(":= \\\n")[2].partition("\n\n")[0].split():
        if word != "\\" and not word.startswith(("$(wildcard", "include/config/")):
            found.add(_resolved(os.path.join(objects, word), known))
    return frozenset(found)


def _resolved(path: str, known: dict[str, str]) -> str:
    """realpath() with the directories looked up once: a unit reads hundreds of files of a few directories."""
    directory, name = os.path.split(path)
    if directory not in known:
        known[directory] = os.path.realpath(directory)
    whole = f"{known[directory]}/{name}"
    return os.path.realpath(whole) if os.path.islink(whole) else whole


def objtool_arguments(config: str) -> list[str]:
    """What scripts/Makefile.lib (objtool-args-y) gives objtool on vmlinux.o or a linked module, from 6.2
    on.
    """
    table = (
        ("HAVE_JUMP_LABEL_HACK", "--hacks=jump_label"),
        ("HAVE_NOINSTR_HACK", "--hacks=noinstr"),
        ("MITIGATION_CALL_DEPTH_TRACKING", "--hacks=skylake"),
        ("X86_KERNEL_IBT", "--ibt"),
        ("FINEIBT", "--cfi"),
        ("UNWINDER_ORC", "--orc"),
        ("MITIGATION_RETPOLINE", "--retpoline"),
        ("MITIGATION_RETHUNK", "--rethunk"),
        ("MITIGATION_SLS", "--sls"),
        ("STACK_VALIDATION", "--stackval"),
        ("HAVE_STATIC_CALL_INLINE", "--static-call"),
        ("HAVE_UACCESS_VALIDATION", "--uaccess"),
    )
    arguments = [argument for option, argument in table if config_value(config, option) == "y"]
    padding = config_value(config, "FUNCTION_PADDING_BYTES")
    if config_value(config, "PREFIX_SYMBOLS") == "y" and padding:
        arguments.append(f"--prefix={padding}")
    return arguments


def is_delayed(config: str) -> bool:
    """Whether kbuild runs objtool only on the linked whole (delay-objtool in scripts/Makefile.lib)."""
    return config_value(config, "X86_KERNEL_IBT") == "y" or config_value(config, "LTO_CLANG") == "y"


def _delayed_objtool(bench: Bench, output: Path, path: str, *, modular: bool) -> None:
    """Do for one object what kbuild would do for the linked kernel or module."""
    config = (bench.objects / ".config").read_text(encoding="utf-8")
    if is_delayed(config):
        run_objtool(bench, output, path, config, modular=modular)


def run_objtool(bench: Bench, output: Path, path: str, config: str, *, modular: bool) -> None:
    """objtool over one object of ``path``. Raises ``Refused`` (TOOLCHAIN).

    Most complaints of objtool do not reach its exit status, and it writes the unwind tables last: what it
    could not finish is known by their absence. An object without them would be loaded, with a stack that the
    kernel cannot follow and returns that no mitigation finds.
    """
    tool = bench.objects / "tools/objtool/objtool"
    arguments = [*objtool_arguments(config), "--link", *(["--module"] if modular else [])]
    done = run([str(tool), *arguments, str(output)], cwd=bench.objects, environment={"SRCARCH": "x86"})
    if done.status or not _has_unwind_tables(output.read_bytes(), config):
        raise Refused(
            Refusal.TOOLCHAIN,
            f"objtool gave up on it: {done.err.strip()[:300]}",
            file=path,
            remedy="Report this with the diff.",
        )


def _has_unwind_tables(data: bytes, config: str) -> bool:
    """True too where there is no code, or the kernel does not use them."""
    sections = read_object(data).sections
    has_code = any(section.executable and section.size for section in sections)
    expected = has_code and config_value(config, "UNWINDER_ORC") == "y"
    return not expected or any(section.name == ORC_ADDRESSES and section.size for section in sections)
