"""Whether the issuer of JSON Web Tokens publishes keys that they can be verified with."""

from collections import Counter
from collections.abc import Sequence

from runengine_server.adapters.tokens.jwks import JwksError, algorithms_of, fetch_keys
from runengine_server.commands.effective import without_secrets
from runengine_server.commands.findings import Finding, failed, ok


async def examine_keys(url: str) -> Sequence[Finding]:
    """What there is to say about a well-formed URL of a key set."""
    check = "Token keys"
    try:
        keys = await fetch_keys(url)
    except JwksError as error:
        advice = "correct RUNENGINE_JWT_JWKS_URL, or let this machine reach the issuer"
        return [failed(check, f"{without_secrets(url)}: {error}", advice)]
    kinds = Counter(" or ".join(sorted(algorithms_of(key))) for key in keys.values())
    counted = ", ".join(f"{count} for {kind}" for kind, count in sorted(kinds.items()))
    return [ok(check, f"{len(keys)} {'key' if len(keys) == 1 else 'keys'}: {counted}")]
