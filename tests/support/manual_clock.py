"""A clock in a test's hand."""

from datetime import UTC, datetime


class ManualClock:
    """Stands still until moved: both clocks say `at`, in seconds."""

    def __init__(self, at: float = 0.0) -> None:
        """Begin there."""
        self.at = at

    def now(self) -> datetime:
        """The wall clock, aware UTC."""
        return datetime.fromtimestamp(self.at, UTC)

    def monotonic(self) -> float:
        """The same as a number."""
        return self.at
