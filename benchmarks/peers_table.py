"""The same work on other engines and on ours, in turn; ratios are taken round by round.

Nothing here imports grpc: every peer, ours too, is a process of its own, and a server is started first.
"""

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg

from benchmarks.conditions import conditions
from benchmarks.databases import Databases
from benchmarks.figures import Figures, Say
from benchmarks.peers.install import NotInstallableError
from benchmarks.peers.turns import OURS, PEERS, TurnError, place_of, take_turn
from benchmarks.result import Result
from runengine_server.adapters.embedded import start_valkey

# What a queue that must lose nothing needs.
_DURABLE: Final = {
    "appendonly": "yes", "appendfsync": "always", "maxmemory": "0", "maxmemory-policy": "noeviction",
}  # fmt: skip
_REMOTE: Final = "remote"
# Whose skills are remote, or who could replace an engine with remote skills.
_COMPARED_WITH_REMOTE: Final = ("restate", "graphile", "dbos", "temporal", "floor-grpc")

Rows = Sequence[Mapping[str, Any]]


def measure(databases: Databases, options: argparse.Namespace, say: Say) -> Result:
    """Every peer that can be installed has had its turn in every round."""
    figures, failed = Figures(say), dict[str, str]()
    versions: dict[str, str] = {}
    peers = _installed(options.peers, failed, say)
    facts = dict(asyncio.run(conditions(databases)))
    with start_valkey(settings=_DURABLE) as valkey:
        urls = {name: asyncio.run(_new_database(databases.database_url, name)) for name in peers}
        for number in range(1, options.rounds + 1):
            say(f"round {number}")
            found: dict[str, Rows] = {}
            first = number % max(1, len(peers))  # another one in each round, so that nobody always follows the same
            for name in [*peers[first:], *peers[:first]]:
                if name in failed:
                    continue
                try:
                    with place_of(databases, urls[name], valkey.url) as place:
                        found[name] = take_turn(PEERS[name], place, *_share(name, options))
                except TurnError as error:
                    failed[name] = f"failed in round {number}: {str(error).partition(chr(10))[0]}"
                    say(f"{PEERS[name].title} failed: {error}")
            _note({name: found[name] for name in peers if name in found}, figures)
            versions.update({PEERS[name].title: rows[0]["version"] for name, rows in found.items() if rows})
    facts["peers"] = "; ".join(versions.values())
    if failed:
        facts["not measured"] = "; ".join(f"{PEERS[name].title}: {reason}" for name, reason in failed.items())
        say(f"not measured: {facts['not measured']}")
    return Result(conditions=facts, rows=figures.rows(), text=figures.text())


def _installed(names: Sequence[str], failed: dict[str, str], say: Say) -> list[str]:
    there = []
    for name in names:
        try:
            PEERS[name].install()
            there.append(name)
        except NotInstallableError as error:
            failed[name] = f"not installable here: {error}"
            say(f"{PEERS[name].title}: {failed[name]}")
    return there


def _share(name: str, options: argparse.Namespace) -> tuple[Sequence[str], Sequence[int]]:
    """Which works and sizes are this peer's: only ours has remote skills beside its own."""
    works = [work for work in options.work if work != _REMOTE or name == OURS]
    return works, [min(options.n)] if PEERS[name].is_slow else options.n


async def _new_database(database_url: str, name: str) -> str:
    database = f"peer_{name.replace('-', '_')}"
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(f"CREATE DATABASE {database}")
    finally:
        await connection.close()
    return database_url.replace("/postgres?", f"/{database}?")


def _note(found: Mapping[str, Rows], figures: Figures) -> None:
    """This round's figures, and what ours are to those of each peer: above 1 is faster."""
    values = {(name, *_figure(row)): _value(row) for name, rows in found.items() for row in rows}
    for (name, work, unit), value in values.items():
        figures.add(work, PEERS[name].title, unit, value)
    for (name, work, unit), value in values.items():
        if name == OURS:
            for peer in found:
                theirs = _opponent(peer, work)
                if theirs is not None and (other := values.get((peer, theirs, unit))) is not None:
                    ratio = other / value if unit in ("ms", "s") else value / other
                    figures.add(work, f"RunEngine to {PEERS[peer].title}", "×", ratio)


def _opponent(peer: str, work: str) -> str | None:
    """Which work of a peer ours is compared with: remote skills with what it has in the place of w1."""
    if peer == OURS:
        return None
    if work.startswith(_REMOTE):
        return work.replace(_REMOTE, "w1") if peer in _COMPARED_WITH_REMOTE else None
    return work


def _figure(row: Mapping[str, Any]) -> tuple[str, str]:
    match row["work"]:
        case "one20":
            return "one20", "ms"
        case "w2" | "w3" as work:
            return work, "s"
        case "w4":
            return "w4", "calls/s"
        case work:
            return f"{work}, N = {row['n']}", "steps/s"


def _value(row: Mapping[str, Any]) -> float:
    match row["work"]:
        case "one20":
            return float(row["p50_ms"])
        case "w2" | "w3":
            return float(row["seconds"])
        case _:
            return float(row["steps"] / row["seconds"])
