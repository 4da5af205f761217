"""Reads and checks a tokens file (YAML or JSON); no message ever shows a token."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.ids import Tenant

_KEYS = frozenset({"token", "token_sha256", "principal", "tenant", "scopes", "expires_at"})
_SHA256 = re.compile(r"[0-9a-f]{64}")
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
PRINCIPAL_CHARS_MAX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEntry:
    """A token, as lower-case hex SHA-256, and who it belongs to."""

    token_sha256: str
    caller: Caller


class TokensFileError(ValueError):
    """The tokens file cannot be used; the message lists everything that is wrong."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        """Say what is wrong in which file."""
        super().__init__("\n".join(f"{path}: {problem}" for problem in problems))
        self.problems = tuple(problems)


def read_tokens_file(path: Path) -> list[TokenEntry]:
    """The entries of a file that holds a list of `{token_sha256 | token, principal, tenant, scopes, expires_at?}`.

    Raises:
        TokensFileError: the file cannot be read, is not such a list, or has entries with mistakes.
    """
    try:
        document: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TokensFileError(path, [f"cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise TokensFileError(path, ["is not UTF-8 text"]) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else "?"
        raise TokensFileError(path, [f"is neither YAML nor JSON: line {line}: {error.problem}"]) from None
    except yaml.YAMLError:
        raise TokensFileError(path, ["is neither YAML nor JSON"]) from None
    if not isinstance(document, list) or not document:
        raise TokensFileError(path, ["must be a list with at least one token"])
    entries: dict[str, TokenEntry] = {}
    problems: list[str] = []
    for index, item in enumerate(document):
        entry = _Reader(f"[{index}]", problems).entry(item)
        if entry is None:
            continue
        if entry.token_sha256 in entries:
            problems.append(f"[{index}]: the token is listed twice")
        entries[entry.token_sha256] = entry
    if problems:
        raise TokensFileError(path, problems)
    return list(entries.values())


class _Reader:
    """Reads one entry and notes what is wrong with it."""

    def __init__(self, place: str, problems: list[str]) -> None:
        self._place = place
        self._problems = problems

    def entry(self, item: object) -> TokenEntry | None:
        """The entry, None when something is wrong with it."""
        before = len(self._problems)
        if not isinstance(item, dict):
            self._wrong("", "must be an object")
            return None
        for key in item:
            if key not in _KEYS:
                self._wrong("", f"has an unknown key {str(key)[:40]!r}; known are {', '.join(sorted(_KEYS))}")
        entry = TokenEntry(
            token_sha256=self._digest(item),
            caller=Caller(
                principal=self._principal(item.get("principal")),
                tenant=self._tenant(item.get("tenant")),
                scopes=self._scopes(item.get("scopes")),
                expires_at=self._expires_at(item.get("expires_at")),
            ),
        )
        return entry if len(self._problems) == before else None

    def _wrong(self, key: str, problem: str) -> None:
        self._problems.append(f"{self._place}{'.' if key else ''}{key}: {problem}")

    def _digest(self, item: dict[object, object]) -> str:
        token, digest = item.get("token"), item.get("token_sha256")
        if (token is None) == (digest is None):
            self._wrong("token", "give exactly one of token and token_sha256")
            return ""
        if digest is not None:
            if not isinstance(digest, str) or not _SHA256.fullmatch(digest.lower()):
                self._wrong("token_sha256", "must be the 64 hexadecimal digits of the token's SHA-256, as a string")
                return ""
            return digest.lower()
        if not isinstance(token, str) or not token or token != token.strip() or not token.isascii():
            self._wrong("token", "must be a non-empty ASCII string without blanks around it")
            return ""
        return hashlib.sha256(token.encode()).hexdigest()

    def _principal(self, value: object) -> str:
        if not isinstance(value, str) or not value.strip() or len(value) > PRINCIPAL_CHARS_MAX:
            self._wrong("principal", f"must be a string of 1 to {PRINCIPAL_CHARS_MAX} characters")
            return ""
        return value

    def _tenant(self, value: object) -> Tenant:
        if not isinstance(value, str) or not TENANT.fullmatch(value):
            self._wrong("tenant", f"must match {TENANT.pattern}")
            return Tenant("")
        return Tenant(value)

    def _scopes(self, value: object) -> frozenset[Scope]:
        known = ", ".join(scope.value for scope in Scope)
        if not isinstance(value, list) or not value:
            self._wrong("scopes", f"must be a list of at least one of {known}")
            return frozenset()
        scopes: set[Scope] = set()
        for index, item in enumerate(value):
            try:
                scopes.add(Scope(item))
            except ValueError:
                self._wrong(f"scopes[{index}]", f"is not a scope; known are {known}")
        return frozenset(scopes)

    def _expires_at(self, value: object) -> datetime | None:
        if value is None:
            return None
        moment = value
        if isinstance(value, str):
            try:
                moment = datetime.fromisoformat(value)
            except ValueError:
                moment = None
        if not isinstance(moment, datetime) or moment.tzinfo is None:
            self._wrong("expires_at", "must be a time with an offset, such as 2027-01-31T12:00:00Z")
            return None
        return moment
