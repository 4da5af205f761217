"""Apply a JSON merge patch (RFC 7396)."""

from runengine_server.domain.json_value import JsonValue


def merge_patch(target: JsonValue, patch: JsonValue) -> JsonValue:
    """Return the target with the patch applied; neither argument is changed.

    An object in the patch is merged member by member and null removes the member; everything else in the patch
    replaces what was there. Untouched parts of the result are shared with the arguments: treat it as immutable.

    Source: RFC 7396 §2.
    """
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, change in patch.items():
        if change is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), change)
    return merged
