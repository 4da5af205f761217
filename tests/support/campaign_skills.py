"""The campaign's skill server as a process of its own, with its ledger."""

import sys
from pathlib import Path

from runengine_client.skills import LedgerEvent, read_ledger

from .processes import ManagedProcess


class CampaignSkills(ManagedProcess):
    """The campaign's skill server."""

    def __init__(self, folder: Path) -> None:
        """Start it and wait until it listens."""
        self.ledger_path = folder / "ledger.jsonl"
        options = [
            "--address",
            "127.0.0.1:0",
            "--artifact-dir",
            str(folder / "artifacts"),
            "--ledger",
            str(self.ledger_path),
        ]
        command = [sys.executable, "-m", "examples.campaign.server", *options]
        super().__init__(command, log_path=folder / "campaign-skills.log")
        try:
            self.address = self.wait_for_line("campaign skills listening on ")
        except BaseException:
            self.kill()
            raise

    def calls(self, run_id: str) -> set[str]:
        """The steps of a run that were called."""
        records = read_ledger(self.ledger_path)
        return {record.step_id for record in records if (record.event, record.run_id) == (LedgerEvent.STARTED, run_id)}
