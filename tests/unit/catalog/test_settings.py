from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livepatch_core.catalog.author import author
from livepatch_core.catalog.settings import parse_master
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind


def test_defaults() -> None:
    master = parse_master(None, "/var/cache/salt/master", "root")
    assert (master.state_dir, master.catalog_dir) == (Path("/var/lib/livepatch-master"), None)
    with pytest.raises(LivepatchError, match="names no livepatch:catalog_dir"):
        _ = master.served


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "must hold a mapping"),
        ({"catalogue": "/srv"}, "unknown key livepatch:catalogue"),
        ({"state_dir": "state"}, "not an absolute path"),
        ({"catalog_dir": 3}, "not an absolute path"),
        ({"state_dir": "/c/x"}, "lies in Salt's cachedir"),
        ({"state_dir": "/c/../c"}, "lies in Salt's cachedir"),
        ({"catalog_dir": "/c/x"}, "lies in Salt's cachedir"),
        ({"catalog_dir": "/srv", "state_dir": "/srv/state"}, "which the fleet can read"),
        ({"sign_key": "/c/key.pem"}, "sign_key .* lies in Salt's cachedir"),
        ({"catalog_dir": "/srv", "sign_key": "/srv/key.pem"}, "sign_key .* lies in catalog_dir"),
    ],
)
def test_bad_configuration(value: Any, said: str) -> None:
    with pytest.raises(LivepatchError, match=said) as caught:
        parse_master(value, "/c", "root")
    assert caught.value.kind is Kind.ARGUMENT


@pytest.mark.parametrize(
    "value", [{"state_dir": "/srv/salt/state"}, {"state_dir": "/srv/salt"}, {"sign_key": "/srv/salt/key.pem"}]
)
def test_nothing_secret_in_what_the_fleet_can_read(value: dict[str, str]) -> None:
    roots = {"base": ["/srv/levels"], "dev": ["/srv/salt"]}
    with pytest.raises(LivepatchError, match="the file root /srv/salt, which the fleet can read"):
        parse_master(value, "/c", "root", roots)
    served = parse_master({"catalog_dir": "/srv/levels"}, "/c", "root", roots).catalog_dir
    assert served == Path("/srv/levels")


def test_state_dir_that_a_link_leads_into_the_cache(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    with pytest.raises(LivepatchError, match="cachedir"):
        parse_master({"state_dir": str(tmp_path / "link/state")}, str(tmp_path / "cache"), "root")


@pytest.mark.parametrize(
    ("user", "environment", "who"),
    [
        ("alice", {}, "alice"),
        ("sudo_bob", {"SUDO_USER": "bob"}, "sudo_bob"),
        ("salt", {"SUDO_USER": "bob"}, "sudo_bob"),  # salt-run gave up root before it asked
        ("alice", {"SUDO_USER": "bob"}, "alice"),  # known to the API: the daemon's environment says nothing
    ],
)
def test_who(user: str, environment: dict[str, str], who: str) -> None:
    by = author(user, "salt", environment, " why ", "now")
    assert (by.who, by.why) == (who, "why")


@pytest.mark.parametrize("user", [None, "", "UNKNOWN", "Reactor", 7, "a\nb"])
def test_unknown_user(user: object) -> None:
    with pytest.raises(LivepatchError, match="unknown user approves nothing") as caught:
        author(user, "salt", {}, "why", "now")
    assert caught.value.kind is Kind.UNAPPROVED


def test_a_reason_that_no_file_can_hold() -> None:
    """What Python makes of bytes on a command line that are no UTF-8."""
    with pytest.raises(LivepatchError, match="not UTF-8"):
        author("alice", "salt", {}, "caf\udce9", "now")


@pytest.mark.parametrize("why", [None, "", "  ", 3])
def test_no_reason(why: object) -> None:
    with pytest.raises(LivepatchError, match="No reason was given"):
        author("alice", "salt", {}, why, "now")
