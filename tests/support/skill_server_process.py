"""The scripted skill server (`skills_app.py`) as a process of its own, with its gates and its ledger."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from runengine_client.skills import LedgerEvent, LedgerRecord, read_ledger

from .processes import ManagedProcess, wait_until

_PROGRAM = Path(__file__).with_name("skills_app.py")


class SkillServerProcess(ManagedProcess):
    """Skills `t.echo`, `t.gated`, `t.flaky`, `t.big` and `t.publish`, answering at `address` once constructed."""

    def __init__(
        self,
        folder: Path,
        *,
        address: str = "127.0.0.1:0",
        only: Sequence[str] | None = None,
        grace_s: float = 30.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start the server and wait until it listens.

        Args:
            folder: for artifacts, gates, ledger and log; kept by the caller.
            address: where it listens; port 0 takes a free one.
            only: the skills it offers; None means all.
            grace_s: how long a call outlives its engine.
            environment: further variables.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.artifact_dir = folder / "artifacts"
        options = ["--folder", str(folder), "--address", address, "--grace-s", str(grace_s)]
        offered = [] if only is None else ["--only", *only]
        super().__init__(
            [sys.executable, str(_PROGRAM), *options, *offered],
            log_path=folder / "skills.log",
            environment=environment,
        )
        try:
            self.address = self.wait_for_line("skills listening on ")
        except BaseException:
            self.kill()
            raise

    @property
    def targets(self) -> str:
        """The target map that sends `t.*` here."""
        return f"t.*=grpc://{self.address}"

    def open_gate(self, name: str) -> None:
        """Let calls that wait at this gate go on, now and later."""
        (self.folder / "gates" / name).touch()

    def calls(self, event: LedgerEvent = LedgerEvent.STARTED, *, run_id: str = "", step_id: str = "") -> int:
        """How many calls of this run and step the ledger has with this event."""
        return sum(record.event is event for record in self.records(run_id=run_id, step_id=step_id))

    def records(self, *, run_id: str = "", step_id: str = "") -> list[LedgerRecord]:
        """The ledger's records of this run and step, in order."""
        return [
            record
            for record in read_ledger(self.folder / "ledger.jsonl")
            if run_id in ("", record.run_id) and step_id in ("", record.step_id)
        ]

    def wait_for_call(
        self, run_id: str, step_id: str, event: LedgerEvent = LedgerEvent.STARTED, *, timeout_s: float = 10.0
    ) -> None:
        """The ledger has a record of this kind for the step."""
        wait_until(
            lambda: self.calls(event, run_id=run_id, step_id=step_id) > 0,
            f"{event} of {step_id} in the ledger",
            timeout_s=timeout_s,
        )
