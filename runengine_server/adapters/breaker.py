"""Stops asking a server that does not answer, and asks again one call at a time."""

from runengine_server.ports.clock import Clock


class CircuitBreaker:
    """Closed while calls succeed; open after `failures_max` failures in a row; every `open_s` one call may probe.

    So a frozen server costs `failures_max` timeouts at first and one in each `open_s` from then on, however many steps
    are looked up. Every admitted call ends with exactly one of `succeeded`, `failed` and `abandoned`.
    """

    def __init__(self, clock: Clock, *, failures_max: int, open_s: float) -> None:
        """Start closed."""
        self._clock = clock
        self._failures_max = failures_max
        self._open_s = open_s
        self._failures = 0
        self._probe_at: float | None = None
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """True while calls are not admitted, a probe apart."""
        return self._probe_at is not None

    def admits(self) -> bool:
        """Tell whether a call may be made now; while open, True makes the caller the probe."""
        if self._probe_at is None:
            return True
        if self._is_probing or self._clock.monotonic() < self._probe_at:
            return False
        self._is_probing = True
        return True

    def succeeded(self) -> bool:
        """Close; True when it was open."""
        was_open = self.is_open
        self._failures = 0
        self._probe_at = None
        self._is_probing = False
        return was_open

    def failed(self) -> bool:
        """Count a failure; True when this one opened it."""
        self._failures += 1
        was_open = self.is_open
        if self._failures >= self._failures_max:
            self._probe_at = self._clock.monotonic() + self._open_s
            self._is_probing = False
        return self.is_open and not was_open

    def abandoned(self) -> None:
        """A call was cancelled before it told anything; the next one may probe instead."""
        self._is_probing = False
