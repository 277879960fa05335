"""What the boot unit, which has no minion, reads as configuration is what the minion itself reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import salt.config

from livepatch_core.host.settings import Settings, parse_settings
from livepatch_core.host.unit import read_settings


def configured(directory: Path, files: Mapping[str, str]) -> Path:
    (directory / "minion.d").mkdir()
    for name, text in {"minion": "", **files}.items():
        (directory / name).write_text("id: a-test\n" * (name == "minion") + text)
    return directory


def as_salt(directory: Path) -> Settings:
    return parse_settings(salt.config.minion_config(str(directory / "minion")).get("livepatch"))


def test_two_files_are_both_seen(tmp_path: Path) -> None:
    files = {
        "minion.d/a.conf": "livepatch: {state_dir: /srv/state}\n",
        "minion.d/b.conf": "livepatch: {soak: 60}\n",
    }
    read = read_settings(configured(tmp_path, files))
    assert (read.state_dir, read.soak) == (Path("/srv/state"), 60.0)
    assert read == as_salt(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"minion": "livepatch: {soak: 60}\n"},
        {"minion": "livepatch: {soak: 60}\n", "minion.d/a.conf": "livepatch: {deadline: 30}\n"},
        {"minion": "livepatch: {soak: 60}\n", "minion.d/a.conf": "livepatch:\n"},
        {"minion": "livepatch: {soak: 60}\n", "minion.d/a.conf": "schedule: {}\n"},
        {"minion.d/a.conf": "livepatch: {soak: 60}\n", "minion.d/b.conf": "livepatch: {soak: 90}\n"},
        {"minion.d/a.conf": "livepatch: {soak: 60}\n", "minion.d/b.conf": "livepatch:\n"},
        {"minion.d/a.conf": "livepatch:\n", "minion.d/b.conf": "livepatch: {soak: 60}\n"},
        {"minion.d/a.conf": "livepatch: {soak: 60}\n", "minion.d/b.conf": "livepatch: [\n"},
        {
            "minion.d/a.conf": "livepatch: {services: [sshd, crond]}\n",
            "minion.d/b.conf": "livepatch: {services: [nginx, sshd]}\n",
        },
        {
            "minion.d/a.conf": "livepatch: {probes: [{fun: test.ping}]}\n",
            "minion.d/b.conf": "livepatch: {probes: [{fun: test.ping}, {fun: site.well, equals: 1}]}\n",
        },
    ],
)
def test_it_is_what_the_minion_reads(tmp_path: Path, files: dict[str, str]) -> None:
    assert read_settings(configured(tmp_path, files)) == as_salt(tmp_path)
