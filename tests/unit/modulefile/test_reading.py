from __future__ import annotations

import bz2
import gzip
import lzma

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.errors import LivepatchError
from livepatch_core.modulefile import reading
from livepatch_core.modulefile.reading import decompress
from livepatch_core.words import Kind

COMPRESS = {
    "xz": lzma.compress,
    "gz": gzip.compress,
    "zst": zstandard.ZstdCompressor().compress,
}
compressions = pytest.mark.parametrize("name", COMPRESS)


def refused(data: bytes) -> LivepatchError:
    with pytest.raises(LivepatchError) as caught:
        decompress(data)
    assert caught.value.kind is Kind.MODULE_FORMAT
    return caught.value


@compressions
@given(data=st.binary(max_size=5000))
def test_round_trip(name: str, data: bytes) -> None:
    assert decompress(COMPRESS[name](data)) == (data, name)


@given(st.binary().filter(lambda data: reading.compression_of(data) == "none"))
def test_what_is_not_compressed_passes(data: bytes) -> None:
    assert decompress(data) == (data, "none")


@compressions
def test_truncated_anywhere(name: str) -> None:
    data = COMPRESS[name](bytes(range(256)) * 4)
    for length in range(6, len(data)):
        assert "damaged" in (message := refused(data[:length]).message) or "truncated" in message


@compressions
def test_padding_is_ignored_and_anything_else_refused(name: str) -> None:
    data = COMPRESS[name](b"module")
    assert decompress(data + bytes(512))[0] == b"module"
    assert "follows" in refused(data + b"\0\0x").message


@compressions
def test_a_flipped_byte_is_noticed(name: str) -> None:
    data = bytearray(COMPRESS[name](bytes(range(256)) * 40))
    data[len(data) // 2] ^= 0x10
    if name != "zst":  # zstd frames carry a checksum only when asked to; the digest of the file covers them
        refused(bytes(data))


@compressions
def test_a_bomb_is_stopped_at_the_limit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LIMIT", 1 << 20)
    assert decompress(COMPRESS[name](bytes(1 << 20)))[0] == bytes(1 << 20)
    assert "more than 1 MiB" in refused(COMPRESS[name](bytes((1 << 20) + 1))).message
    assert "more than 1 MiB" in refused(COMPRESS[name](bytes(1 << 26))).message


def test_xz_that_asks_for_too_much_memory() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    assert "damaged" in refused(lzma.compress(b"module", filters=filters)).message


def test_zstd_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(reading.importlib, "import_module", missing)
    assert "zstandard" in refused(COMPRESS["zst"](b"module")).remedy


def test_other_compressions_are_no_module_of_linux() -> None:
    assert decompress(bz2.compress(b"module"))[1] == "none"
