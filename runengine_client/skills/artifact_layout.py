"""How an artifact store is laid out, and how publishing and clearing agree: skills write it, engines clear it.

Content lies at `sha256/ab/cdef…/<name>`. While it is being removed there is a marker, `removing/<hash>`. Who publishes
content that is there already makes it young, then looks for the marker, waits until it is gone and looks whether the
content still is; who clears sets the marker, then looks how old the content is. Whichever is first, one sees the other.
"""

from typing import Final

CONTENTS: Final = "sha256"
REMOVING: Final = "removing"
INCOMING: Final = "incoming"

FRESH_S: Final = 3600.0
"""Content younger than this is not made younger. Nothing this young is ever cleared."""

REMOVAL_S_MAX: Final = 30.0
"""So long whoever publishes waits for a removal, which takes less; a marker that was left behind costs this once."""


def folder_of(content_hash: str) -> str:
    """Where a content's files lie."""
    return f"{CONTENTS}/{content_hash[:2]}/{content_hash[2:]}"


def marker_of(content_hash: str) -> str:
    """What is there while the content is being removed."""
    return f"{REMOVING}/{content_hash}"


def content_hash_of_folder(path: str) -> str | None:
    """The content whose folder, or a file in it, has this path below the root; None for anything else."""
    parts = path.split("/")
    if len(parts) < 3 or parts[0] != CONTENTS or len(parts[1]) != 2 or len(parts[2]) != 62:
        return None
    content_hash = parts[1] + parts[2]
    return content_hash if set(content_hash) <= set("0123456789abcdef") else None
