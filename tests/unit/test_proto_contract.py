"""The wire contract: names, numbers and types that clients outside this repository are written against.

The tables are written by hand, not read from the protos: a renumbering must fail here. Notation: `name type=number`,
`string` where no type stands, `*` repeated, `?` explicit presence, `oneof/name type=number`.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet, MethodOptions

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "runengine.v1"
FILES = ("cache", "error_reason", "event", "queue", "run", "run_engine", "skill_runner", "workflow")

ENUMS = {
    "RunStatus": "QUEUED RUNNING COMPLETED FAILED CANCELLED",
    "StepStatus": "PENDING READY RUNNING COMPLETED SKIPPED FAILED CANCELLED",
    "TriggerType": "INITIAL UPDATE RETRY",
    "OutputSource": "EXECUTED BASE_RUN CACHE_HOT CACHE_COLD JOINED",
    "CacheScope": "GLOBAL RUN_ONLY",
    "CacheTier": "HOT COLD",
    "CacheMode": "DEFAULT REFRESH READ_ONLY BYPASS",
    "CacheOutcome": "DISABLED HIT MISS JOINED REFRESHED BYPASSED LOOKUP_FAILED",
    "MissReason": "NEVER_SEEN INPUT_CHANGED SKILL_CHANGED EPOCH_CHANGED INVALIDATED EVICTED SCOPE ARTIFACT_GONE",
    "PlanAction": "EXECUTE REUSE UNKNOWN",
    "PlanReason": "INITIAL SEED DOWNSTREAM WIDENED FORCED NO_BASE_OUTPUT DEFINITION_CHANGED UNAFFECTED"
    " INPUT_UNCHANGED CACHED",
    "FailurePolicy": "FINISH_RUNNING FAIL_FAST",
    "View": "BASIC FULL",
    "RunEventType": "RUN_STATUS STEP_STATUS STEP_PROGRESS ARTIFACT",
    "QueueState": "READY DELAYED WAITING HELD RUNNING",
    "SnapshotReason": "INITIAL HISTORY_COMPACTED SLOW_CONSUMER",
    "ErrorReason": "VALIDATION_FAILED WORKFLOW_INVALID PAGE_TOKEN_INVALID PAYLOAD_SCHEMA_MISMATCH UNKNOWN_CHANGE_TYPE"
    " RUN_NOT_FOUND WORKFLOW_NOT_FOUND STEP_NOT_FOUND ARTIFACT_NOT_FOUND CACHE_ENTRY_NOT_FOUND REQUEST_ID_REUSED"
    " WORKFLOW_VERSION_CONFLICT BASE_RUN_NOT_COMPLETED RUN_NOT_RETRYABLE IMPACT_WIDENED SKILL_UNREGISTERED PLAN_CHANGED"
    " SEQUENCE_IN_FUTURE QUEUE_FULL TOO_MANY_WATCHES PAYLOAD_TOO_LARGE WATCH_STALLED TOKEN_MISSING TOKEN_INVALID"
    " SCOPE_REQUIRED DRAINING DATABASE_UNAVAILABLE INTERNAL NOT_YET_IMPLEMENTED ARTIFACT_GONE ARTIFACT_OUT_OF_REACH"
    " TOO_MANY_DOWNLOADS ARTIFACT_STORE_UNAVAILABLE AUTHENTICATION_UNAVAILABLE",
}
"""Values in the order of their numbers, from 1; 0 is always UNSPECIFIED."""

ACCEPTED_RUN = "run_id=1, status RunStatus=2, message=3, deduplicated bool=4, plan RebuildPlan=5"

MESSAGES = {
    # run.proto
    "Run": "id=1, workflow_name=2, status RunStatus=3, trigger_type TriggerType=4, steps_summary StepsSummary=5,"
    " created_at TS=6, started_at TS=7, completed_at TS=8, error Failure=9, base_run_id=10, trigger_payload S=11,"
    " change_request ChangeRequest=12, workflow_version=13, workflow_digest=14, labels map=15, last_sequence int64=16,"
    " cancel_reason=17, request_id=18, principal=19, root_run_id=20, deadline TS=21, priority int32=22, failed_step=23,"
    " updated_at TS=24, savings Savings=25",
    "StepsSummary": "total int32=1, pending int32=2, running int32=3, completed int32=4, skipped int32=5,"
    " failed int32=6, cancelled int32=7",
    "Savings": "skipped_steps int32=1, seconds_saved double=2",
    "Failure": "code=1, message=2, retryable bool=3, details S=4, step_id=5, attempt int32=6",
    "ChangeRequest": "type=1, payload S=2",
    "Step": "run_id=1, step_id=2, skill_id=3, status StepStatus=4, depends_on*=5, attempt int32=6,"
    " max_attempts int32=7, input_hash=8, output_source OutputSource=9, source_run_id=10, progress StepProgress=11,"
    " error Failure=12, ready_at TS=13, started_at TS=14, ended_at TS=15, next_attempt_at TS=16, input S=17,"
    " output S=18, level int32=19, attempts StepAttempt*=20, cache_key=21, cache CacheDecision=22,"
    " duration_ms int64=23, output_artifact_ids*=24, lease_losses int32=25",
    "CacheDecision": "outcome CacheOutcome=1, tier CacheTier=2, key=3, source_run_id=4, source_step_id=5, age Dur=6,"
    " miss_reason MissReason=7, changed_pointers*=8, nearest_run_id=9",
    "StepProgress": "fraction double=1, message=2, reported_at TS=3",
    "StepAttempt": "attempt int32=1, started_at TS=2, ended_at TS=3, error Failure=4, worker_id=5",
    "Artifact": "id=1, run_id=2, step_id=3, type=4, uri=5, content_hash=6, size_bytes int64=7, filename=8,"
    " metadata S=9, created_at TS=10, source OutputSource=11, source_run_id=12, skill_id=13, skill_version=14",
    "PlannedStep": "step_id=1, action PlanAction=2, reason PlanReason=3, caused_by*=4, changed_pointers*=5,"
    " unknown_until*=6, estimate Dur=7",
    "RebuildPlan": "steps PlannedStep*=1, execute_count int32=2, reuse_count int32=3, unknown_count int32=4,"
    " seed_step_ids*=5, digest=6, base_run_id=7, estimate Dur=8",
    # workflow.proto
    "Workflow": "name=1, version=2, digest=3, description=4, steps StepDefinition*=5,"
    " change_requests ChangeRequestRule*=6, created_at TS=7, trigger_schema S=8, cache_epoch=9,"
    " failure_policy FailurePolicy=10, labels map=11",
    "StepDefinition": "step_id=1, skill_id=2, depends_on*=3, input_selector S=4, cache_policy CachePolicy=5,"
    " retry_policy RetryPolicy=6, timeout Dur=7, description=8, verify_artifacts bool=9",
    "CachePolicy": "enabled bool=1, scope CacheScope=2, hot_ttl Dur=3",
    "RetryPolicy": "max_attempts int32=1, backoff_ms int32=2, max_backoff_ms int32=3, non_retryable_codes*=4",
    "ChangeRequestRule": "type=1, seed_step_ids*=2, cache_mode CacheMode=3, description=4",
    "RegisterWorkflowRequest": "workflow Workflow=1, validate_only bool=2",
    "RegisterWorkflowResponse": "workflow Workflow=1, created bool=2",
    "GetWorkflowRequest": "name=1, version=2",
    "GetWorkflowResponse": "workflow Workflow=1",
    "ListWorkflowsRequest": "page_size int32=1, page_token=2, all_versions bool=3",
    "ListWorkflowsResponse": "workflows Workflow*=1, next_page_token=2",
    # run_engine.proto
    "TriggerRequest": "workflow_name=1, trigger_payload S=2, request_id=3, labels map=4, workflow_version=5,"
    " validate_only bool=6, deadline Dur=7, priority int32=8, cache_mode CacheMode=9, force_step_ids*=10,"
    " expected_plan_digest=11, failure_policy FailurePolicy=12",
    "TriggerResponse": ACCEPTED_RUN,
    "TriggerUpdateRequest": "base_run_id=1, change_request ChangeRequest=2, request_id=3, validate_only bool=4,"
    " expected_plan_digest=5, cache_mode CacheMode=6, strict_impact bool=7, force_step_ids*=8, workflow_version=9,"
    " labels map=10, deadline Dur=11, priority int32=12",
    "TriggerUpdateResponse": ACCEPTED_RUN,
    "CancelRequest": "run_id=1, reason=2",
    "CancelResponse": "run Run=1, message=2",
    "RetryRunRequest": "run_id=1, request_id=2, validate_only bool=3, expected_plan_digest=4",
    "RetryRunResponse": ACCEPTED_RUN,
    "GetRunRequest": "run_id=1, view View=2",
    "GetRunResponse": "run Run=1",
    "ListRunsRequest": "page_size int32=1, page_token=2, workflow_name=3, statuses RunStatus*=4, labels map=5,"
    " base_run_id=6, created_after TS=7, created_before TS=8, trigger_type TriggerType=9",
    "ListRunsResponse": "runs Run*=1, next_page_token=2",
    "ListStepsRequest": "run_id=1, page_size int32=2, page_token=3, statuses StepStatus*=4, view View=5, step_id=6",
    "ListStepsResponse": "steps Step*=1, next_page_token=2, as_of_sequence int64=3",
    "ListArtifactsRequest": "run_id=1, page_size int32=2, page_token=3, step_id=4",
    "ListArtifactsResponse": "artifacts Artifact*=1, next_page_token=2",
    "ExplainStepRequest": "run_id=1, step_id=2",
    "ExplainStepResponse": "step Step=1, text*=2",
    "CompareRunsRequest": "left_run_id=1, right_run_id=2",
    "CompareRunsResponse": "steps StepDiff*=1, root_cause_step_ids*=2",
    "StepDiff": "step_id=1, left Step=2, right Step=3, input_pointers*=4, output_changed bool=5",
    "GetLineageRequest": "artifact_id=1, depth int32=2",
    "GetLineageResponse": "nodes LineageNode*=1, edges LineageEdge*=2",
    "LineageNode": "artifact Artifact=1",
    "LineageEdge": "from_artifact_id=1, to_artifact_id=2, step_id=3",
    "WatchRunRequest": "run_id=1, after_sequence int64?=2, include_progress bool=3, heartbeat_interval Dur=4,"
    " step_ids*=5",
    "WatchRunResponse": "run_id=1, sequence int64=2, kind/snapshot RunSnapshot=3, kind/events EventBatch=4,"
    " kind/bookmark Bookmark=5, kind/end WatchEnd=6",
    "CreateWatchTokenRequest": "run_id=1, ttl Dur=2",
    "CreateWatchTokenResponse": "token=1, expires_at TS=2",
    # queue.proto
    "GetQueueRequest": "",
    "GetQueueResponse": "read_at TS=1, engines_alive int32=2, total QueueDepths=3, skills SkillQueue*=4,"
    " delayed QueuedStep*=5, stuck QueuedStep*=6",
    "QueueDepths": "ready QueueDepth=1, delayed QueueDepth=2, waiting QueueDepth=3, held QueueDepth=4,"
    " running QueueDepth=5, stuck QueueDepth=6",
    "QueueDepth": "steps int64=1, oldest_age Dur=2",
    "SkillQueue": "skill_id=1, depths QueueDepths=2",
    "QueuedStep": "run_id=1, step_id=2, workflow_name=3, skill_id=4, state QueueState=5, attempt int32=6, since TS=7,"
    " next_attempt_at TS=8",
    # event.proto
    "RunSnapshot": "run Run=1, steps Step*=2, reason SnapshotReason=3, more bool=4",
    "EventBatch": "events RunEvent*=1",
    "Bookmark": "server_time TS=1",
    "WatchEnd": "run Run=1",
    "RunEvent": "sequence int64=1, occurred_at TS=2, type RunEventType=3, step_id=4, attempt int32=5,"
    " detail/run RunStatusChanged=6, detail/step StepStatusChanged=7, detail/progress StepProgress=8,"
    " detail/artifact Artifact=9",
    "RunStatusChanged": "from_status RunStatus=1, to_status RunStatus=2, steps_summary StepsSummary=3, error Failure=4",
    "StepStatusChanged": "from_status StepStatus=1, to_status StepStatus=2, output_source OutputSource=3,"
    " error Failure=4, next_attempt_at TS=5, steps_summary StepsSummary=6, cache CacheDecision=7, duration_ms int64=8",
    # cache.proto
    "CacheEntry": "key=1, source_run_id=2, source_step_id=3, skill_id=4, cache_version=5, cache_epoch=6,"
    " created_at TS=7, size_bytes int64=8, output S=9",
    "GetCacheEntryRequest": "key=1, include_output bool=2",
    "GetCacheEntryResponse": "entry CacheEntry=1",
    "ListCacheEntriesRequest": "page_size int32=1, page_token=2, workflow_name=3, step_id=4",
    "ListCacheEntriesResponse": "entries CacheEntry*=1, next_page_token=2",
    "CacheSelector": "key=1, workflow_name=2, step_id=3, source_run_id=4, skill_id=5, cache_version=6,"
    " created_before TS=7",
    "InvalidateCacheRequest": "selector CacheSelector=1, validate_only bool=2, reason=3",
    "InvalidateCacheResponse": "invalidated_count int64=1, sample_keys*=2",
    "GetCacheStatsRequest": "workflow_name=1",
    "GetCacheStatsResponse": "stats CacheStats*=1",
    "CacheStats": "workflow_name=1, step_id=2, hot_hits int64=3, cold_hits int64=4, misses int64=5, joined int64=6,"
    " hit_rate double=7",
    # skill_runner.proto
    "ExecuteRequest": "skill_id=1, idempotency_key=2, run_id=3, step_id=4, attempt int32=5, fencing_token int64=6,"
    " input_json bytes=7, input_hash=8, deadline TS=9, heartbeat_interval Dur=10, workflow_name=11, tenant=12",
    "ExecuteResponse": "kind/accepted ExecuteAccepted=1, kind/heartbeat ExecuteHeartbeat=2,"
    " kind/progress StepProgress=3, kind/artifact ProducedArtifact=4, kind/result ExecuteResult=5,"
    " kind/failure ExecuteFailure=6",
    "ExecuteAccepted": "worker_id=1, replayed bool=2, skill_version=3, cache_version=4, attached bool=5",
    "ExecuteHeartbeat": "",
    "ExecuteResult": "output_json bytes=1, do_not_cache bool=2",
    "ExecuteFailure": "code=1, message=2, retryable bool=3, retry_after Dur=4, details S=5",
    "ProducedArtifact": "type=1, uri=2, content_hash=3, size_bytes int64=4, filename=5, metadata S=6, made_from*=7",
    "ListSkillsRequest": "",
    "ListSkillsResponse": "skills Skill*=1, supports_many bool=2",
    "Skill": "skill_id=1, version=2, description=3, max_concurrency int32=4, default_timeout Dur=5,"
    " input_schema S=6, output_schema S=7, cache_version=8",
    "ExecuteManyRequest": "calls ExecuteManyCall*=1",
    "ExecuteManyCall": "call_id int64=1, request ExecuteRequest=2, cancel bool=3, metadata map=4",
    "ExecuteManyResponse": "messages ExecuteManyMessage*=1",
    "ExecuteManyMessage": "call_id int64=1, response ExecuteResponse=2",
}

SERVICES = {
    "RunEngine": "Trigger TriggerUpdate Cancel RetryRun GetRun★ ListRuns★ ListSteps★ ListArtifacts★ GetLineage★"
    " ExplainStep★ CompareRuns★ GetQueue★ →WatchRun★ CreateWatchToken",
    "WorkflowRegistryService": "RegisterWorkflow GetWorkflow★ ListWorkflows★",
    "CacheAdminService": "GetCacheEntry★ ListCacheEntries★ InvalidateCache GetCacheStats★",
    "SkillRunnerService": "→Execute ListSkills★ ↔ExecuteMany",
}
"""★ without side effects, → server stream, ↔ bidirectional."""

WELL_KNOWN = {"TS": "google.protobuf.Timestamp", "Dur": "google.protobuf.Duration", "S": "google.protobuf.Struct"}
SCALARS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_DOUBLE: "double",
}
FIELD = re.compile(r"(?:(?P<oneof>\w+)/)?(?P<name>\w+)(?: (?P<type>\w+))?(?P<mark>[*?]?)=(?P<number>\d+)")


def loaded_files() -> Iterator[FileDescriptor]:
    """The descriptors that the generated code registers, one per proto."""
    for name in FILES:
        descriptor = import_module(f"runengine_client.pb.runengine.v1.{name}_pb2").DESCRIPTOR
        assert isinstance(descriptor, FileDescriptor)
        yield descriptor


MESSAGE_DESCRIPTORS: dict[str, Descriptor] = {k: v for f in loaded_files() for k, v in f.message_types_by_name.items()}
ENUM_DESCRIPTORS: dict[str, EnumDescriptor] = {k: v for f in loaded_files() for k, v in f.enum_types_by_name.items()}


def described(field: FieldDescriptor) -> tuple[str, str, str, int]:
    """A field of the generated code as (oneof/name, type, mark, number)."""
    oneof = field.containing_oneof
    if oneof is not None and not oneof.name.startswith("_"):
        return f"{oneof.name}/{field.name}", type_name(field), "", field.number
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        assert [SCALARS[part.type] for part in field.message_type.fields] == ["string", "string"]
        return field.name, "map", "", field.number
    mark = "*" if field.is_repeated else "?" if oneof is not None else ""
    return field.name, type_name(field), mark, field.number


def type_name(field: FieldDescriptor) -> str:
    """A field's type: a scalar's keyword, else the full name of its message or enum."""
    composite = field.message_type or field.enum_type
    return SCALARS[field.type] if composite is None else composite.full_name


def expected(row: str) -> set[tuple[str, str, str, int]]:
    """A row of MESSAGES as `described` would give it."""
    fields = [FIELD.fullmatch(part) for part in row.split(", ")] if row else []
    parsed = set()
    for match in fields:
        assert match is not None, f"cannot read {row}"
        kind = match["type"] or "string"
        if kind not in {*SCALARS.values(), "map"}:
            kind = WELL_KNOWN.get(kind, f"{PACKAGE}.{kind}")
        name = f"{match['oneof']}/{match['name']}" if match["oneof"] else match["name"]
        parsed.add((name, kind, match["mark"], int(match["number"])))
    return parsed


@pytest.mark.parametrize("name", sorted(MESSAGES.keys() | MESSAGE_DESCRIPTORS.keys()))
def test_message_has_exactly_the_fields_of_the_table(name: str) -> None:
    """Every message has the names, numbers, types and presence that clients were given, and none is undocumented."""
    descriptor = MESSAGE_DESCRIPTORS[name]
    assert descriptor.full_name == f"{PACKAGE}.{name}"
    assert {described(field) for field in descriptor.fields} == expected(MESSAGES[name])
    assert all(nested.GetOptions().map_entry for nested in descriptor.nested_types)


@pytest.mark.parametrize("name", sorted(ENUMS.keys() | ENUM_DESCRIPTORS.keys()))
def test_enum_has_exactly_the_values_of_the_table(name: str) -> None:
    """Every enum counts from UNSPECIFIED = 0 in the table's order, each value with the enum's prefix."""
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper()
    values = ["UNSPECIFIED", *ENUMS[name].split()]
    actual = {value.name: value.number for value in ENUM_DESCRIPTORS[name].values}
    assert actual == {f"{prefix}_{value}": number for number, value in enumerate(values)}


def test_services_have_exactly_the_rpcs_of_the_table() -> None:
    """Every RPC has its standard request and response, its streaming kind and its side-effect mark."""
    actual = {}
    for file in loaded_files():
        for service in file.services_by_name.values():
            assert service.full_name == f"{PACKAGE}.{service.name}"
            marked = []
            for method in service.methods:
                assert method.input_type is MESSAGE_DESCRIPTORS[f"{method.name}Request"]
                assert method.output_type is MESSAGE_DESCRIPTORS[f"{method.name}Response"]
                arrow = {(False, False): "", (False, True): "→", (True, True): "↔"}[
                    (method.client_streaming, method.server_streaming)
                ]
                is_pure = method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS
                marked.append(f"{arrow}{method.name}{'★' if is_pure else ''}")
            actual[service.name] = set(marked)
    assert actual == {name: set(rpcs.split()) for name, rpcs in SERVICES.items()}


def test_protos_import_only_google_protobuf_and_each_other() -> None:
    """A client can be generated with plain protoc and nothing but protobuf's own files."""
    own = {f"runengine/v1/{name}.proto" for name in FILES}
    assert {path.relative_to(ROOT / "protos").as_posix() for path in (ROOT / "protos").rglob("*.proto")} == own
    for file in loaded_files():
        imports = {dependency.name for dependency in file.dependencies}
        assert all(name in own or name.startswith("google/protobuf/") for name in imports), (file.name, imports)


def test_generated_code_is_what_buf_reads_from_the_protos(tmp_path: Path) -> None:
    """The committed code describes exactly the protos beside it, under their own file names."""
    buf = str(Path(sys.executable).with_name("buf"))
    arguments = [buf, "build", "--as-file-descriptor-set", "--exclude-source-info", "--exclude-imports", "-o", "-"]
    env = {**os.environ, "BUF_CACHE_DIR": str(tmp_path)}
    image = subprocess.run(arguments, cwd=ROOT, env=env, check=True, capture_output=True).stdout
    from_protos = {file.name: normalized(file) for file in FileDescriptorSet.FromString(image).file}
    from_code = {}
    for file in loaded_files():
        proto = FileDescriptorProto()
        file.CopyToProto(proto)
        from_code[file.name] = normalized(proto)
    assert from_code == from_protos


def normalized(file: FileDescriptorProto) -> FileDescriptorProto:
    """The file without JSON names, which protoc leaves to their default and buf writes out."""
    for message in file.message_type:
        for part in (message, *message.nested_type):
            for field in part.field:
                field.ClearField("json_name")
    return file
