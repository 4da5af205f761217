"""The campaign's manifest: every file by role, with hash, size and media type."""

from __future__ import annotations

import re
from collections.abc import Mapping

from examples.campaign.generate.json_values import InputError, JsonObject, JsonValue, mapping, mappings, text

_HASH = re.compile(r"[0-9a-f]{64}")


def assemble(campaign_id: str, plan: JsonObject, files: JsonObject) -> JsonObject:
    """Return the manifest of a campaign.

    Args:
        campaign_id: As the trigger names it; may be empty.
        plan: The campaign plan.
        files: Role -> the artifacts that play it, as the engine hands them over.

    Raises:
        InputError: A role has no artifact, an artifact lacks a field, or a hash is none.
    """
    roles: JsonObject = {}
    sizes: dict[str, int] = {}
    for role in sorted(files):
        artifacts = mappings(files, role)
        if not artifacts:
            raise InputError(f"{role}: no artifact")
        entries: list[JsonValue] = []
        for artifact in artifacts:
            entry = _entry(role, artifact)
            sizes[text(entry, "contentHash")] = _size(role, artifact)
            entries.append(entry)
        roles[role] = entries
    return {
        "schemaVersion": 1,
        "campaignId": campaign_id,
        "title": text(plan, "title"),
        "slug": text(plan, "slug"),
        "style": text(plan, "style"),
        "copy": mapping(plan, "copy"),
        "files": roles,
        "totals": {
            "files": sum(len(mappings(roles, role)) for role in roles),
            "contents": len(sizes),
            "bytes": sum(sizes.values()),
        },
    }


def _entry(role: str, artifact: Mapping[str, JsonValue]) -> JsonObject:
    content_hash = text(artifact, "contentHash")
    if not _HASH.fullmatch(content_hash):
        raise InputError(f"{role}: contentHash is no SHA-256 in lower-case hexadecimal: {content_hash!r}")
    return {
        "filename": text(artifact, "filename"),
        "type": text(artifact, "type"),
        "uri": text(artifact, "uri"),
        "contentHash": content_hash,
        "sizeBytes": _size(role, artifact),
        "metadata": artifact.get("metadata") or {},
    }


def _size(role: str, artifact: Mapping[str, JsonValue]) -> int:
    size = artifact.get("sizeBytes")
    if isinstance(size, bool) or not isinstance(size, int | float) or size < 0 or size != int(size):
        raise InputError(f"{role}: sizeBytes is no whole number: {size!r}")
    return int(size)
