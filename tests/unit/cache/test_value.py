"""The layout of hot values."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from runengine_server.adapters.valkey.value import PoisonedValue, decode_value, encode_value
from runengine_server.domain.cache import CacheEntry

MakeEntry = Callable[..., CacheEntry]


@pytest.mark.parametrize("output", [b"", b"null", bytes(range(256)), b"x" * 100_000])
def test_an_entry_comes_back_whole(make_entry: MakeEntry, output: bytes) -> None:
    """Decoding what was encoded gives an equal entry, whatever bytes the output has."""
    entry = make_entry(output=output)
    assert decode_value(encode_value(entry), entry.key) == entry


def test_every_damaged_byte_is_noticed(make_entry: MakeEntry) -> None:
    """A value with any one bit turned is refused, wherever it is."""
    entry = make_entry()
    value = encode_value(entry)
    for at in range(len(value)):
        with pytest.raises(PoisonedValue):
            decode_value(value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :], entry.key)


def test_every_shortened_value_is_noticed(make_entry: MakeEntry) -> None:
    """A value that was cut off anywhere, or has something after it, is refused."""
    entry = make_entry()
    value = encode_value(entry)
    for damaged in (*(value[:at] for at in range(len(value))), value + b"\0"):
        with pytest.raises(PoisonedValue):
            decode_value(damaged, entry.key)


@pytest.mark.parametrize("other", [{"tenant": "b"}, {"workflow_name": "b"}, {"step_id": "b"}, {"input_hash": "b"}])
def test_a_value_of_another_key_is_noticed(make_entry: MakeEntry, other: dict[str, str]) -> None:
    """An intact value that stands under a key that is not its own is refused."""
    entry = make_entry()
    with pytest.raises(PoisonedValue):
        decode_value(encode_value(entry), replace(entry.key, **other))  # type: ignore[arg-type]
