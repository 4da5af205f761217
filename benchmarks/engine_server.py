"""Engines as operators run them, each a process of its own: `python -m benchmarks.engine_server` says its id first."""

import os
import runpy
import signal
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Self

from benchmarks.bench import child
from examples.campaign.child import Child

_READY: Final = "RunEngine is listening on "


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineServer:
    """A server that listens; it ends with the resources it was started for."""

    pid: int
    target: str
    _process: Child

    @classmethod
    def started(cls, resources: ExitStack) -> Self:
        """A further server runs, with the settings of this process's environment; blocks until it listens."""
        process = child(resources, "benchmarks.engine_server")
        lines = process.wait_for(lambda line: line.startswith(_READY))
        pid = next(line for line in lines if line.startswith("pid "))
        return cls(pid=int(pid.split()[1]), target=lines[-1].removeprefix(_READY), _process=process)

    def end(self, how: signal.Signals) -> None:
        """It has gone; blocks."""
        os.kill(self.pid, how)
        self._process.wait_ended()


if __name__ == "__main__":
    print(f"pid {os.getpid()}", flush=True)
    sys.argv[1:] = ["serve"]
    runpy.run_module("runengine_server", run_name="__main__", alter_sys=True)
