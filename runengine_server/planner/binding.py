"""What a reused step is bound to: an output of the base run, or one that the cache had."""

from runengine_server.domain.base_run import BaseResult
from runengine_server.domain.cache import CacheDecision, CacheHit
from runengine_server.domain.plan import ReuseBinding
from runengine_server.domain.states import CacheOutcome, CacheTier, OutputSource


def base_binding(result: BaseResult) -> ReuseBinding:
    """Return the binding to what the base run has."""
    return ReuseBinding(
        producer_run=result.producer_run,
        producer_step=result.producer_step,
        producer_run_id=result.producer_run_id,
        source=OutputSource.BASE_RUN,
        input_hash=result.input_hash,
        cache_version=result.cache_version,
        output_hash=result.output_hash,
    )


def cache_binding(hit: CacheHit) -> ReuseBinding:
    """Return the binding to what the cache had."""
    entry = hit.entry
    return ReuseBinding(
        producer_run=entry.producer.run,
        producer_step=entry.producer.step,
        producer_run_id=entry.producer.run_id,
        source=hit_source(hit),
        input_hash=entry.key.input_hash,
        cache_version=entry.fingerprint.cache_version,
        output_hash=entry.output_hash,
        decision=hit_decision(hit),
        cache=(entry.key, hit.tier),
    )


def hit_source(hit: CacheHit) -> OutputSource:
    """Return where an output comes from that the cache had."""
    return OutputSource.CACHE_HOT if hit.tier is CacheTier.HOT else OutputSource.CACHE_COLD


def hit_decision(hit: CacheHit, age_s: float | None = None) -> CacheDecision:
    """Return the decision to record for a hit."""
    entry = hit.entry
    return CacheDecision(
        outcome=CacheOutcome.HIT,
        tier=hit.tier,
        key=str(entry.key),
        source_run_id=entry.producer.run_id,
        source_step_id=entry.producer.step_id,
        age_s=age_s,
    )
