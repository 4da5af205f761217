"""How artifacts cannot be had, in the core's words; what a URI says stays out of them."""

from runengine_server.domain.errors import NotFoundError, UnavailableError


def out_of_reach() -> NotFoundError:
    """ARTIFACT_OUT_OF_REACH."""
    return NotFoundError(
        "ARTIFACT_OUT_OF_REACH",
        "the artifact lies outside of what this server serves; its operator sets RUNENGINE_ARTIFACT_STORE and "
        "RUNENGINE_ARTIFACT_ROOTS",
    )


def bytes_gone() -> NotFoundError:
    """ARTIFACT_GONE, for bytes that went while they were read."""
    return NotFoundError("ARTIFACT_GONE", "the artifact's bytes went while they were read")


def store_unavailable() -> UnavailableError:
    """ARTIFACT_STORE_UNAVAILABLE."""
    return UnavailableError(
        "ARTIFACT_STORE_UNAVAILABLE",
        "the store that holds the artifact's bytes does not answer; try again shortly",
        retry_after_s=1.0,
    )
