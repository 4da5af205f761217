"""The process's clocks."""

from datetime import UTC, datetime
from time import monotonic


class SystemClock:
    """Clock on the machine's."""

    def now(self) -> datetime:
        """The wall clock, aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return monotonic()
