"""What notifications say."""

from runengine_server.adapters.postgres.hint_payload import (
    PAYLOAD_BYTES_MAX,
    RUNS_MAX,
    Hints,
    decode_hints,
    encode_hints,
)
from runengine_server.domain.ids import RunKey


def _together(hints: Hints) -> tuple[Hints, list[str]]:
    payloads = list(encode_hints(hints))
    heard = Hints()
    for payload in payloads:
        heard.merge(decode_hints(payload))
    return heard, payloads


def test_round_trip() -> None:
    """What is encoded is what is heard, in as many payloads as PostgreSQL's limit needs."""
    many = {RunKey(10**15 + n) for n in range(2000)}
    hints = Hints(events=set(many), cancelled={RunKey(1), *list(many)[:800]}, is_ready=True, has_permits=True)
    heard, payloads = _together(hints)
    assert heard == hints
    assert len(payloads) > 2
    assert max(map(len, payloads)) < PAYLOAD_BYTES_MAX + 20 < 8000
    assert list(encode_hints(Hints())) == []
    assert not Hints()


def test_bounded() -> None:
    """More runs than worth naming become all runs, and stay so when merged."""
    hints = Hints()
    hints.add_events(RunKey(n) for n in range(RUNS_MAX + 1))
    assert hints.has_many
    assert not hints.events
    assert list(encode_hints(hints)) == ["e*"]
    other = Hints(events={RunKey(1)})
    other.merge(hints)
    assert other == Hints(has_many=True)


def test_unknown_parts() -> None:
    """Parts that a later version may add, and nonsense, are ignored."""
    assert decode_hints("p") == Hints(has_permits=True)
    assert decode_hints("zfoo;e1,x,2;;r") == Hints(events={RunKey(1), RunKey(2)}, is_ready=True)
