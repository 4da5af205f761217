"""Counts what happens with every step in plain numbers, and makes metrics of them when somebody scrapes.

prometheus_client's own counters and histograms take a lock each time: counting a step with them took 3 times as long.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from runengine_server.domain.states import CacheTier, OutputSource

SKILLS_MAX: Final = 200
OTHER: Final = "other"

_BOUNDS_MS: Final = (10, 100, 500, 1_000, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000, 1_800_000)


class SkillTally:
    """The steps of one skill; `name` is its label."""

    __slots__ = ("_durations", "_sources", "_sum_ms", "name")

    def __init__(self, name: str) -> None:
        """Nothing has happened."""
        self.name = name
        self._sources = [0] * (max(OutputSource) + 1)
        self._durations = [0] * (len(_BOUNDS_MS) + 1)
        self._sum_ms = 0

    def has_output(self, source: OutputSource) -> None:
        """A step has an output, from there."""
        self._sources[source] += 1

    def took(self, duration_ms: int) -> None:
        """An attempt succeeded in so many milliseconds."""
        self._durations[bisect_left(_BOUNDS_MS, duration_ms)] += 1
        self._sum_ms += duration_ms

    def sources(self) -> Iterator[tuple[str, int]]:
        """How many outputs came from where, of the sources that there were."""
        for source in OutputSource:
            if self._sources[source]:
                yield source.name.lower(), self._sources[source]

    def durations(self) -> tuple[list[tuple[str, float]], float] | None:
        """Attempts up to each bound in seconds, and the seconds of all; None without any."""
        if not any(self._durations):
            return None
        count = 0
        buckets: list[tuple[str, float]] = []
        for bound_ms, fallen in zip((*_BOUNDS_MS, None), self._durations, strict=True):
            count += fallen
            buckets.append(("+Inf" if bound_ms is None else str(bound_ms / 1000), count))
        return buckets, self._sum_ms / 1000


class StepTallies(Collector):
    """Steps by skill, and look-ups of the cache; skills beyond the first 200 are counted together."""

    def __init__(self) -> None:
        """Nothing has happened."""
        self._by_skill: dict[str, SkillTally] = {}
        self._other = SkillTally(OTHER)
        self._hits = [0] * (max(CacheTier) + 1)
        self._misses = 0

    def of(self, skill_id: str) -> SkillTally:
        """Where the steps of a skill are counted."""
        return self._by_skill.get(skill_id) or self._new(skill_id)

    def hit(self, tier: CacheTier) -> None:
        """A look-up found an output."""
        self._hits[tier] += 1

    def missed(self) -> None:
        """A look-up found none."""
        self._misses += 1

    def describe(self) -> Iterator[Metric]:
        """The families, without what is in them."""
        return StepTallies().collect()

    def collect(self) -> Iterator[Metric]:
        """Everything as it stands."""
        steps = CounterMetricFamily(
            "run_engine_steps", "Steps that have an output, by where it came from", labels=["skill", "source"]
        )
        durations = HistogramMetricFamily(
            "run_engine_step_duration_seconds", "Of the attempt that succeeded", labels=["skill"]
        )
        for tally in (*self._by_skill.values(), self._other):
            for source, count in tally.sources():
                steps.add_metric([tally.name, source], count)
            if (taken := tally.durations()) is not None:
                durations.add_metric([tally.name], buckets=taken[0], sum_value=taken[1])
        yield steps
        yield durations
        hits = CounterMetricFamily("run_engine_cache_hits", "Look-ups that found an output", labels=["tier"])
        for tier in CacheTier:
            hits.add_metric([tier.name.lower()], self._hits[tier])
        yield hits
        yield CounterMetricFamily("run_engine_cache_misses", "Look-ups that found no output", value=self._misses)
        found = sum(self._hits)
        rate = found / (found + self._misses) if found else 0.0
        yield GaugeMetricFamily(
            "run_engine_cache_hit_rate", "Hits of either tier per look-up of this process", value=rate
        )

    def _new(self, skill_id: str) -> SkillTally:
        if not skill_id or len(self._by_skill) >= SKILLS_MAX:
            return self._other
        tally = self._by_skill[skill_id] = SkillTally(skill_id)
        return tally
