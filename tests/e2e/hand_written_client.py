"""A client written from the protos alone, as another team would: triggers, watches to the end, lists artifacts.

Run with plain protoc's output on the path and nothing of RunEngine installed: TARGET TOKEN WORKFLOW.
"""

import json
import sys

import grpc
from google.protobuf import struct_pb2
from runengine.v1 import event_pb2, run_engine_pb2, run_engine_pb2_grpc, run_pb2


def main(target: str, token: str, workflow: str) -> None:
    """Print what was seen as one JSON object."""
    metadata = (("authorization", f"Bearer {token}"),)
    payload = struct_pb2.Struct()
    payload.update({"brief": {"style": "epic"}, "text": "hello"})
    with grpc.insecure_channel(target) as channel:
        engine = run_engine_pb2_grpc.RunEngineStub(channel)
        request = run_engine_pb2.TriggerRequest(workflow_name=workflow, trigger_payload=payload)
        run_id = engine.Trigger(request, metadata=metadata, timeout=10).run_id
        kinds, sequences, run = [], [], run_pb2.Run()
        watch = run_engine_pb2.WatchRunRequest(run_id=run_id, after_sequence=0)
        for message in engine.WatchRun(watch, metadata=metadata, timeout=20):
            kinds.append(message.WhichOneof("kind"))
            sequences += [event.sequence for event in message.events.events]
            types = [event_pb2.RunEventType.Name(event.type) for event in message.events.events]
            kinds += types
            run = message.end.run
        listed = engine.ListArtifacts(
            run_engine_pb2.ListArtifactsRequest(run_id=run_id), metadata=metadata, timeout=10
        ).artifacts
    seen = {
        "status": run_pb2.RunStatus.Name(run.status),
        "completed": run.steps_summary.completed,
        "last": kinds[-1],
        "kinds": sorted(set(kinds)),
        "sequences": sequences,
        "artifacts": [[artifact.filename, artifact.content_hash] for artifact in listed],
        "foreign": sorted(name for name in sys.modules if name.startswith(("runengine_client", "runengine_server"))),
    }
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
