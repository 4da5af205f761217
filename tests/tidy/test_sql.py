"""Named statements: a noun, then a verb, then a sentence that says why."""

import re

import pytest

from . import source

QUERIES = "runengine_server/adapters/postgres/queries/"
VERBS = {
    "add", "begin", "cancel", "claim", "count", "create", "delete", "enforce", "ensure", "find", "follow", "hold",
    "invalidate", "list", "lock", "page", "read", "reap", "register", "release", "renew", "retire", "return", "settle",
    "start", "sweep", "tick", "update",
}  # fmt: skip
# Named for what they return instead; no further ones.
WITHOUT_VERB = {
    "events_last_sequences", "installation_id", "run_base", "run_successes", "runs_facts", "runs_find_based",
    "step_outputs", "step_queue_owned", "workflow_by_digest", "workflow_owned", "workflow_versions",
}  # fmt: skip


def _statements() -> list[tuple[str, str, str]]:
    found = []
    for path in source.tracked():
        if path.startswith(QUERIES) and path.endswith(".sql"):
            parts = re.split(r"^-- name: (.*)$", source.text(path), flags=re.MULTILINE)
            found += [(path, name, body) for name, body in zip(parts[1::2], parts[2::2], strict=True)]
    return found


@pytest.mark.parametrize(("path", "name", "body"), _statements(), ids=[name for _, name, _ in _statements()])
def test_statement(path: str, name: str, body: str) -> None:
    """Its name is noun_verb, and a comment below the name says what it is for."""
    assert re.fullmatch(r"[a-z]+(_[a-z]+)+", name)
    assert name in WITHOUT_VERB or name.rsplit("_", 1)[1] in VERBS, "the last word is no verb"
    assert re.match(r"\n-- [A-Z$]", body), "no comment says why"


def test_the_list_of_exceptions_only_shrinks() -> None:
    """A name that was put right leaves the list."""
    assert {name for _, name, _ in _statements()} >= WITHOUT_VERB


def test_migrations_keep_the_lock_order_in_sight() -> None:
    """Whoever locks rows says in which order, or takes only what nobody holds."""
    for path in source.tracked():
        if path.startswith("runengine_server/adapters/postgres/migrations/"):
            for statement in re.findall(r"(?s)PERFORM FROM.*?FOR UPDATE[^;]*;", source.text(path)):
                assert "ORDER BY" in statement or "SKIP LOCKED" in statement or statement.count("=") == 1, statement
