"""What an engine loads before anything asks for it."""

import subprocess
import sys

# Each takes 5 to 10 MB of every engine, and most are never asked for it.
WHEN_CONFIGURED = ("aiohttp", "obstore", "joserfc", "opentelemetry.sdk.trace")


def test_what_is_not_configured_is_not_loaded() -> None:
    """Clients of HTTP runners, buckets, issuers and collectors are imported by those engines that have them."""
    program = f"import sys, runengine_server.serve; print([m for m in {WHEN_CONFIGURED!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
