"""Images, exports and dependencies of the target kernel, read when needed and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from livepatch_core.build.bootimage import kernel_elf
from livepatch_core.build.exports import Export, parse_symvers
from livepatch_core.build.image import Image, keep, kernel_image, module_image, read_kept
from livepatch_core.build.objectfile import read_object
from livepatch_core.build.target import Target, check_banner, module_paths, read_module_file
from livepatch_core.build.verify import modinfo

_LONGEST_BANNER = 1024  # bytes; init/version.c's is about 200


def _banner(image: Image) -> bytes:
    """What the kernel says of itself, with the line's end; b"" if it says nothing."""
    for start, data in image.regions:
        at = data.find(b"Linux version ")
        if at >= 0:
            return image.read(start + at, _LONGEST_BANNER)
    return b""


class Kernel:
    """Images and exports of a target, read when needed and kept."""

    def __init__(self, target: Target, cache: Path | None = None) -> None:
        self.target, self._cache = target, cache
        self.exports: Mapping[str, Export] = parse_symvers(
            (target.headers / "Module.symvers").read_text(encoding="utf-8")
        )
        self._paths = module_paths(target)
        self._images: dict[str, Image] = {}
        self._depends: dict[str, frozenset[str]] = {}

    def image(self, name: str) -> Image:
        """The image of ``vmlinux`` or of a module. Raises ``Refused`` if the kernel has no such module."""
        if name not in self._images:
            self._images[name] = self._kernel() if name == "vmlinux" else self._module(name)
        return self._images[name]

    def has(self, name: str) -> bool:
        return name == "vmlinux" or name in self._paths

    def _kernel(self) -> Image:
        packed = self.target.image.read_bytes()
        digest = hashlib.sha256(packed).hexdigest()[:32]
        kept = self._cache / f"images/{digest}" if self._cache is not None else None
        image = read_kept(kept) if kept is not None else None
        if image is None:
            image = kernel_image(kernel_elf(packed))
            if kept is not None:
                keep(image, kept)
        # A kept one, too: it is known by the image's bytes, and the source is another one next time.
        check_banner(self.target, _banner(image))
        return image

    def _module(self, name: str) -> Image:
        own = [e.name for e in self.exports.values() if e.owner == "vmlinux"]
        return module_image(name, read_module_file(self._paths[name]), self.image("vmlinux"), own)

    def vermagic(self) -> str:
        """What the kernel's own modules say, "" if there are none."""
        path = next(iter(self._paths.values()), None)
        return dict(modinfo(read_object(read_module_file(path)))).get("vermagic", "") if path else ""

    def depends(self, name: str) -> frozenset[str]:
        """The modules that must be loaded whenever ``name`` is, itself excluded; vmlinux needs none."""
        if name == "vmlinux":
            return frozenset()
        if name not in self._depends:
            fields = dict(modinfo(read_object(read_module_file(self._paths[name]))))
            needed = fields.get("depends", "").replace("-", "_")
            direct = {n for n in needed.split(",") if n in self._paths}
            self._depends[name] = frozenset(direct).union(*(self.depends(n) for n in direct))
        return self._depends[name]
