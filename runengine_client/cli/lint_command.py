"""`runengine workflow lint`: everything wrong with workflow files at once, each with file, line and field."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from runengine_client.cli import exit_codes
from runengine_client.cli.session import Session, session_of
from runengine_client.cli.workflow_files import Files, expand
from runengine_client.client import RunEngineClient
from runengine_client.errors import FieldViolation, RunEngineError, UnavailableError
from runengine_client.workflow.advice import advise
from runengine_client.workflow.checks import check_workflow
from runengine_client.workflow.files import WorkflowText, load_workflow_text
from runengine_client.workflow.positions import PlacedViolation
from runengine_client.workflow.reading import WorkflowDocumentError

LOCAL_CHECKS = "structure, ids, limits, references, cycles and change requests"
SERVER_CHECKS = "skills, expressions, the trigger schema and the registered versions"
WARNINGS_SHOWN_MAX = 20
"""Of one file, in the table output; a habit repeated in thousands of steps is one thing to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was found in one file."""

    file: Path
    errors: Sequence[PlacedViolation] = ()
    warnings: Sequence[PlacedViolation] = ()


def lint(
    context: typer.Context,
    files: Files,
    offline: Annotated[bool, typer.Option("--offline", help="Check the files only, without a server.")] = False,
) -> None:
    """Check workflow files here and, where a server answers, there too. Registers nothing.

    The exit status is 1 if anything is wrong; warnings alone do not count.

    Example:

      runengine workflow lint workflows/
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        linter = _Linter(session, None if offline else client)
        is_clean = True
        for file in expand(session, files):
            found = await linter.check(file)
            is_clean = is_clean and not found.errors
            _report(session, found)
        session.note(f"checked here: {LOCAL_CHECKS}")
        session.note(linter.server_note)
        return exit_codes.COMPLETED if is_clean else exit_codes.FAILED

    session.run(command)


class _Linter:
    """Checks one file after the other; a server that does not answer is asked once."""

    def __init__(self, session: Session, client: RunEngineClient | None) -> None:
        self._session = session
        self._client = client
        self._seen: dict[tuple[str, str], Path] = {}
        self.server_note = f"not checked: {SERVER_CHECKS}; a server does that"
        if client is not None:
            self.server_note = f"checked by the server at {session.target}: {SERVER_CHECKS}"

    async def check(self, file: Path) -> Findings:
        """Everything there is to say about a file."""
        try:
            text = load_workflow_text(file)
        except WorkflowDocumentError as error:
            return Findings(file=file, errors=[_placed(each) for each in error.violations])
        except OSError as error:
            broken = PlacedViolation(field="document", description=f"cannot be read: {error.strerror}")
            return Findings(file=file, errors=[broken])
        violations = [*self._repeated(file, text), *await self._violations(text)]
        return Findings(file=file, errors=text.place(violations), warnings=text.place(advise(text.workflow)))

    async def _violations(self, text: WorkflowText) -> Sequence[FieldViolation]:
        """The server's word where it gives one, because it checks more; ours otherwise."""
        if self._client is not None:
            try:
                await self._client.register_workflow(text.workflow, validate_only=True)
                return ()
            except UnavailableError:
                self._client = None
                self.server_note = f"not checked, no server at {self._session.target}: {SERVER_CHECKS}"
            except RunEngineError as error:
                whole = FieldViolation(field="document", description=f"{error.message} ({error.reason})")
                return error.violations or [whole]
        return check_workflow(text.workflow)

    def _repeated(self, file: Path, text: WorkflowText) -> list[FieldViolation]:
        name, version = text.workflow.name, text.workflow.version
        first = self._seen.setdefault((name, version), file)
        if first == file:
            return []
        return [FieldViolation(field="workflowName", description=f"{name} {version} is already defined by {first}")]


def _placed(violation: FieldViolation) -> PlacedViolation:
    if isinstance(violation, PlacedViolation):
        return violation
    return PlacedViolation(field=violation.field, description=violation.description)


def _report(session: Session, found: Findings) -> None:
    if session.is_data:
        session.print_data(
            {
                "file": str(found.file),
                "valid": not found.errors,
                "violations": [_json(each) for each in found.errors],
                "warnings": [_json(each) for each in found.warnings],
            },
            is_item=True,
        )
        return
    for each in found.errors:
        _say(session, found.file, each, Text())
    for each in found.warnings[:WARNINGS_SHOWN_MAX]:
        _say(session, found.file, each, Text("warning: ", "yellow"))
    if len(found.warnings) > WARNINGS_SHOWN_MAX:
        session.say(f"{found.file}: … {len(found.warnings) - WARNINGS_SHOWN_MAX} more warnings; --output json has them")
    counts = [_count(len(found.errors), "error"), _count(len(found.warnings), "warning")]
    said = ", ".join(each for each in counts if each)
    if found.errors:
        session.say(Text.assemble(f"{found.file}: ", (said, "red")))
    else:
        session.say(Text.assemble(f"{found.file}: ", ("ok", "green"), f", {said}" if said else ""))


def _say(session: Session, file: Path, violation: PlacedViolation, kind: Text) -> None:
    place = f":{violation.line}:{violation.column}" if violation.line else ""
    session.say(Text.assemble(f"{file}{place}: ", kind, (violation.field, "bold"), f": {violation.description}"))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}" if number else ""


def _json(violation: PlacedViolation) -> dict[str, object]:
    found: dict[str, object] = {"field": violation.field, "description": violation.description}
    return found | ({"line": violation.line, "column": violation.column} if violation.line else {})
