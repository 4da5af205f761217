"""Time inside the process; leases and backoff use the database's clock instead."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """A wall clock for what people read and a monotonic one for durations, in seconds."""

    def now(self) -> datetime:
        """The current time, aware UTC."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
