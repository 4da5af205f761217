"""Runs a module for as long as its parent lives: `python -m examples.campaign.tethered MODULE ARGUMENTS…`.

Standard input is the tether. Whatever ends the parent, `kill -9` too, the kernel closes its end of the pipe; this
process then gets SIGTERM, as if an operator had sent it, and SIGKILL when it has not ended in time.
"""

import os
import runpy
import signal
import sys
import threading
import time

# Draining may take this long; databases that the parent's end stops, too, are gone before that.
STOP_S_MAX = 12.0


def main() -> None:
    """The module has run as `__main__`, with standard input empty."""
    tether = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_end_with, args=(tether,), name="tether", daemon=True).start()
    sys.argv[:] = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with(tether: int) -> None:
    while os.read(tether, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_S_MAX)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
