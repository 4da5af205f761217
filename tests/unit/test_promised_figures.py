"""The figures that the contract and the documents promise are the ones the code goes by."""

import pytest

from runengine_server.adapters.memory import step_queue as memory_step_queue
from runengine_server.adapters.postgres import step_queue
from runengine_server.adapters.skills import call_reader, silence
from runengine_server.config import Settings
from runengine_server.domain import retry, workflow
from runengine_server.domain.json_limits import DEFAULT_LIMITS
from runengine_server.planner import step_validation, validation
from runengine_server.rpc import settings as rpc_settings
from runengine_server.scheduler.settings import SchedulerSettings
from runengine_server.service import event_tail, page_tokens, watch_run

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("promised", "held"),
    [
        pytest.param((50, 500), (page_tokens.PAGE_SIZE_DEFAULT, page_tokens.PAGE_SIZE_MAX), id="page sizes"),
        pytest.param(3 * MIB, rpc_settings.MESSAGE_BYTES_MAX, id="bytes of a message"),
        pytest.param(
            (MIB, 32, 100_000),
            (DEFAULT_LIMITS.bytes_max, DEFAULT_LIMITS.depth_max, DEFAULT_LIMITS.nodes_max),
            id="a payload's bytes, depth and nodes",
        ),
        pytest.param((MIB, 3 * MIB), (call_reader.OUTPUT_BYTES_MAX, call_reader.MESSAGE_BYTES_MAX), id="an output"),
        pytest.param(200, event_tail.EVENTS_PER_MESSAGE_MAX, id="events of a message"),
        pytest.param(5_000, watch_run.LAG_EVENTS_MAX, id="events a watcher may lag behind"),
        pytest.param((5.0, 60.0), (watch_run.HEARTBEAT_S_MIN, watch_run.HEARTBEAT_S_MAX), id="a watch's heartbeat"),
        pytest.param(10.0, rpc_settings.RpcSettings().watch_write_timeout_s, id="how long a reader may block"),
        pytest.param(
            (10_000, 100_000, 3 * MIB),
            (validation.STEPS_MAX, validation.EDGES_MAX, validation.DEFINITION_BYTES_MAX),
            id="a workflow's steps, edges and bytes",
        ),
        pytest.param(
            (24 * 3600, 24 * 3600, 48 * 3600),
            (workflow.HOT_TTL_S_DEFAULT, step_validation.HOT_TTL_S_MIN, step_validation.HOT_TTL_S_MAX),
            id="how long the hot tier keeps an output",
        ),
        pytest.param(
            (None, None),
            tuple(Settings.model_fields[name].default for name in ("cache_max_age_days", "cache_max_bytes")),
            id="what the cold tier removes unless it is told to",
        ),
        pytest.param(
            (30.0, 7.0, 365.0),
            tuple(Settings.model_fields[f"{name}_retention_days"].default for name in ("run", "event", "audit")),
            id="how many days runs, events and the audit log are kept",
        ),
        pytest.param(20, step_validation.ATTEMPTS_MAX, id="attempts"),
        pytest.param(0.5, retry.JITTER_SHARE_MAX, id="jitter"),
        pytest.param(60.0, workflow.ATTEMPT_TIMEOUT_S_DEFAULT, id="timeout of an attempt"),
        pytest.param(5, step_queue.LEASE_LOSSES_MAX, id="lost leases"),
        pytest.param(5, memory_step_queue.LEASE_LOSSES_MAX, id="lost leases, in memory"),
        pytest.param(10.0, SchedulerSettings().lease_s, id="an engine's lease"),
        pytest.param((5.0, 3), (silence.ACCEPTED_WITHIN_S, silence.SILENT_INTERVALS_MAX), id="a runner's silence"),
    ],
)
def test_figure(promised: object, held: object) -> None:
    """What is promised is what is held to."""
    assert held == promised
