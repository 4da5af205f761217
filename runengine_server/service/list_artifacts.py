"""List a run's artifacts, those of reused steps included."""

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.ids import StepId, StepNo
from runengine_server.domain.json_value import JsonValue
from runengine_server.ports.run_reader import ArtifactPlace
from runengine_server.service.authorization import require
from runengine_server.service.message_size import artifact_bytes, fitting
from runengine_server.service.messages import ArtifactPage, ListArtifactsRequest
from runengine_server.service.page_tokens import decode_page_token, encode_page_token, page_size
from runengine_server.service.run_lookup import ReadRuns, find_run, step_not_found


async def list_artifacts(read: ReadRuns, caller: Caller, request: ListArtifactsRequest) -> ArtifactPage:
    """List a run's artifacts by step in definition order, only one step's when the request names one.

    Raises:
        NotFoundError: RUN_NOT_FOUND, STEP_NOT_FOUND.
        InvalidError: VALIDATION_FAILED, PAGE_TOKEN_INVALID.
    """
    require(caller, Scope.RUN_READ, run_id=request.run_id)
    limit = page_size(request.page_size)
    run = await find_run(read, caller, request.run_id)
    bound_to: dict[str, JsonValue] = {"list": "artifacts", "run": run.run_id, "stepId": request.step_id}
    position = decode_page_token(request.page_token, bound_to, 2)
    compiled = await read.workflows.compiled(run.workflow_digest)
    step: StepNo | None = None
    if request.step_id:
        step = compiled.step_no.get(StepId(request.step_id))
        if step is None:
            raise step_not_found(request.step_id, compiled)
    after = None if position is None else ArtifactPlace(step=StepNo(position[0]), ordinal=position[1])
    found = await read.reader.artifacts(run, compiled.workflow, step=step, after=after, limit=limit + 1)
    page = fitting(found[:limit], lambda placed: artifact_bytes(placed[1]))
    token = ""
    if len(page) < len(found):
        last = page[-1][0]
        token = encode_page_token([last.step, last.ordinal], bound_to)
    return ArtifactPage(artifacts=tuple(artifact for _, artifact in page), next_page_token=token)
