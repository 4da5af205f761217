"""What an engine does when runs have ended by what it committed: stops what runs of them and says so, once."""

from collections.abc import Mapping, Sequence

from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.ids import RunKey
from runengine_server.ports.step_queue import EndedRun
from runengine_server.scheduler.attempts_in_flight import AttemptsInFlight
from runengine_server.scheduler.reporting import Reporting
from runengine_server.scheduler.run_contexts import RunContext, RunContexts


class Endings:
    """Whoever's transaction ended a run tells of it here, be it a turn, the reaper or a lease handed back."""

    def __init__(self, contexts: RunContexts, in_flight: AttemptsInFlight, reporting: Reporting) -> None:
        """Cancel attempts in `in_flight`; runs have names in `contexts`."""
        self._contexts = contexts
        self._in_flight = in_flight
        self._reporting = reporting
        self._untold: list[EndedRun] = []

    async def happened(self, ended: Sequence[EndedRun], known: Mapping[RunKey, RunContext]) -> None:
        """These runs have ended; what cannot be named while the database is away is told at the next call.

        Args:
            ended: each run once.
            known: contexts that are at hand.
        """
        self._in_flight.cancel_runs([each.run for each in ended])
        untold, self._untold = [*self._untold, *ended], []
        if not untold:
            return
        contexts = known
        try:
            if missing := [each.run for each in untold if each.run not in known]:
                contexts = {**known, **await self._contexts.get(missing)}
        except UnavailableError as error:
            self._reporting.database_unavailable(error)
            self._untold += [each for each in untold if each.run not in known]
        except Exception as error:  # such as a workflow that nobody can read any more
            self._reporting.endings_unnamed(error)
        for each in untold:
            self._contexts.forget(each.run)
        self._reporting.runs_ended(untold, contexts)
