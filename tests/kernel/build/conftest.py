"""A cache that outlives the run (source trees, headers, images), and modules built for the guests'
kernels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from lab import bare, kernels
from lab import cache as lab_cache
from lab.fixtures import watched
from lab.kernels import Kernel
from lab.machine import Machine
from livepatch_core.build import debian
from livepatch_core.build.builder import Built, Options, build
from livepatch_core.build.target import Target
from tests.kernel.build.patched import Patched


@pytest.fixture(scope="session")
def cache() -> Path:
    """Beside the lab's own artefacts, and the demo's."""
    place = lab_cache.root() / "builder"
    place.mkdir(parents=True, exist_ok=True)
    return place


@pytest.fixture(scope="session")
def target_of(cache: Path) -> Callable[[Kernel], Target]:
    """The parts of a guest's kernel, fetched once."""
    return lambda kernel: debian.fetch(kernel.release, cache, print)


Make = Callable[..., Built]


@pytest.fixture
def make(cache: Path, target_of: Callable[[Kernel], Target]) -> Make:
    """Builds a module from diffs for the kernel of the role."""

    def make_one(name: str, diffs: Sequence[str], *, role: str = "6.1", **options: object) -> Built:
        chosen = Options(name, cache=cache, **options)  # type: ignore[arg-type]
        return build(target_of(kernels.kernel(role)), diffs, chosen, scratch=cache / "scratch")

    return make_one


@pytest.fixture
def boot() -> Iterator[Callable[..., Patched]]:
    """Boots bare guests; a guest that was not left clean fails the test that used it."""
    with contextlib.ExitStack() as stack:
        guests = []

        def boot_one(role: str = "6.1", machine: Machine | None = None) -> Patched:
            guest = stack.enter_context(bare.start(kernels.kernel(role), machine or Machine()))
            stack.enter_context(watched(guest))
            guests.append(Patched(guest))
            return guests[-1]

        yield boot_one
        for patched in guests:
            patched.check_log()
