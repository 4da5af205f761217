"""Whether the files a configuration names are such that callers get in and workflows can run."""

import os
import stat
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import anyio

from runengine_client.skills.artifact_bucket import open_bucket
from runengine_client.workflow import read_directory
from runengine_server.adapters.artifacts import parse_roots
from runengine_server.adapters.artifacts.bucket import BucketStore
from runengine_server.adapters.tokens.tokens_file import read_tokens_file
from runengine_server.commands.findings import Finding, failed, ok, warning
from runengine_server.commands.reachability import UnreachableError, require_reachable
from runengine_server.domain.errors import UnavailableError

EXPIRES_SOON: Final = timedelta(days=7)


def examine_tokens(path: Path) -> Iterator[Finding]:
    """What there is to say about a well-formed tokens file."""
    check = "Tokens"
    entries = read_tokens_file(path)
    now = datetime.now(UTC)
    tenants = {entry.caller.tenant for entry in entries}
    yield ok(check, f"{len(entries)} tokens of {len(tenants)} tenants")
    for entry in entries:
        ends = entry.caller.expires_at
        if ends is None or ends > now + EXPIRES_SOON:
            continue
        whose = f"the token of {entry.caller.principal} in {entry.caller.tenant}"
        when = f"{ends.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        found = f"{whose} expired at {when}" if ends <= now else f"{whose} expires at {when}"
        yield warning(check, found, f"give them a new one in {path}, and restart the engines")
    if path.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        yield warning(check, f"{path} can be read or written by other accounts", f"chmod 640 {path}")


def examine_workflows(path: Path, offered: Collection[str] | None) -> Iterator[Finding]:
    """What there is to say about a readable directory of workflows; `offered` are the skills, None when not known."""
    check = "Workflows"
    directory = read_directory(path)
    yield ok(check, f"{len(directory.workflows)} in {path}")
    for file in directory.skipped:
        yield warning(check, f"{file.name} is no workflow, and is skipped", "move it elsewhere")
    if offered is None:
        return
    for workflow in directory.workflows:
        lacking = sorted({step.skill_id for step in workflow.steps} - set(offered))
        if lacking:
            found = f"{workflow.name} {workflow.version} asks for skills that nobody offers: {', '.join(lacking)}"
            yield warning(check, found, "map them in RUNENGINE_SKILLS, and start their server")


async def examine_store(url: str) -> list[Finding]:
    """What there is to say about a well-formed artifact store."""
    check = "Artifact store"
    if url.startswith("file:"):
        path = parse_roots(url)[0].path
        if not await anyio.Path(path).is_dir():
            return []  # the configuration's findings say so
        if os.access(path, os.R_OK | os.W_OK | os.X_OK):
            return [ok(check, f"{path} can be read and cleared")]
        return [failed(check, f"{path} cannot be read and written by this account", f"give the account {path}")]
    try:
        await BucketStore(open_bucket(url), url).find(f"{url.rstrip('/')}/runengine-doctor")
    except UnavailableError as error:
        advice = "set AWS_ENDPOINT_URL, AWS_REGION and credentials as for any S3 client, and check the bucket's name"
        return [failed(check, f"{url}: {error.message}", advice)]
    return [ok(check, f"{url} answers")]


async def examine_roots(text: str) -> list[Finding]:
    """What there is to say about well-formed artifact roots."""
    findings = []
    for root in parse_roots(text):
        place = f"{root.scheme}://{root.host}{root.path}"
        if root.scheme == "file":
            if await anyio.Path(root.path).is_dir():  # where it is none, the configuration's findings say so
                findings.append(ok("Artifact roots", f"{place} is there"))
            continue
        try:
            await require_reachable(f"{root.host}:{root.port}")
        except UnreachableError as error:
            advice = "artifacts below it count as unknown and are not verified; correct RUNENGINE_ARTIFACT_ROOTS"
            findings.append(warning("Artifact roots", f"{place}: {error}", advice))
        else:
            findings.append(ok("Artifact roots", f"{place} answers"))
    return findings
