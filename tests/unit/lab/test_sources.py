from __future__ import annotations

import pytest

from lab import sources
from lab.errors import LabError
from lab.sources import Source

DEBIAN_13 = """\
# Modernized
Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: trixie trixie-updates
Components: main non-free-firmware
Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp

Types: deb
URIs: http://mirror.example/security/
Suites: trixie-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
Enabled: no
URIs: http://off.example/
Suites: trixie
Components: main

Types: deb-src
URIs: http://source.example/
Suites: trixie
Components: main
"""
ONE_LINE = """\
# deb http://off.example bookworm main
deb http://mirror.example/debian bookworm main contrib  # the archive
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://security.example/ bookworm-security main
deb-src http://mirror.example/debian bookworm main
deb https://vendor.example/apt stable main2
"""


def test_deb822_gives_enabled_binary_sources() -> None:
    main, security = sources.parse_deb822(DEBIAN_13)
    assert main.uris == ("http://mirror.example/debian/",)
    assert main.suites == ("trixie", "trixie-updates")
    assert main.components == ("main", "non-free-firmware")
    assert security.signed_by.splitlines()[0] == ""
    assert " -----BEGIN PGP PUBLIC KEY BLOCK-----" in security.signed_by


def test_an_inline_key_survives_being_written_again() -> None:
    security = sources.parse_deb822(DEBIAN_13)[1]
    again = sources.parse_deb822(sources.format_deb822(security, ["bookworm-security"]))
    assert again == [Source(security.uris, ("bookworm-security",), ("main",), security.signed_by)]


def test_one_line_style() -> None:
    found = sources.parse_one_line(ONE_LINE)
    assert found[0] == Source(("http://mirror.example/debian",), ("bookworm",), ("main", "contrib"), "")
    assert found[1].signed_by == "/usr/share/keyrings/x.gpg"
    assert len(found) == 3


@pytest.mark.parametrize("parsed", [sources.parse_deb822(DEBIAN_13), sources.parse_one_line(ONE_LINE)])
def test_the_archives_are_found_whatever_the_host_runs(parsed: list[Source]) -> None:
    mirrors = sources.choose(parsed)
    assert "debian" in mirrors.main.uris[0]
    assert "security" in mirrors.security.uris[0]


def test_a_source_without_key_is_checked_with_debians() -> None:
    assert sources.choose(sources.parse_one_line(ONE_LINE)).main.signed_by == sources.ARCHIVE_KEYRING


def test_a_machine_without_debian_is_told_what_to_do() -> None:
    with pytest.raises(LabError, match=r"sources\.list\.d"):
        sources.choose(sources.parse_one_line("deb http://ubuntu.example noble main\n"))
