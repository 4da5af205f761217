"""A PostgreSQL that can be stopped and started again with its data, owned by processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

from runengine_server.adapters.postgres.migrate import migrate

from ..support.processes import clean_environment

_OWNER = """
import pathlib, sys
from runengine_server.adapters.embedded import start_postgres
with start_postgres(pathlib.Path(sys.argv[1])) as running:
    print(running.url, flush=True)
    sys.stdin.read()
"""


class RestartablePostgres:
    """A migrated server on `data_dir`, running or not; `url` changes with each start."""

    def __init__(self, data_dir: Path) -> None:
        """Start it for the first time."""
        self._data_dir = data_dir
        self._owner: subprocess.Popen[str] | None = None
        self.url = self.start()

    async def migrate(self) -> None:
        """The schema is there."""
        await migrate(self.url)

    def start(self) -> str:
        """It accepts connections at the returned URL."""
        owner = subprocess.Popen(
            [sys.executable, "-c", _OWNER, str(self._data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environment() | {"PATH": os.environ["PATH"]},
        )
        assert owner.stdout is not None
        self._owner = owner
        self.url = owner.stdout.readline().strip()
        assert self.url, f"PostgreSQL did not start; exit status {owner.wait(10)}"
        return self.url

    def stop(self) -> None:
        """It has shut down, as an operator would do it."""
        if self._owner is None:
            return
        assert self._owner.stdin is not None and self._owner.stdout is not None
        self._owner.stdin.close()
        self._owner.wait(30)
        self._owner.stdout.close()
        self._owner = None
