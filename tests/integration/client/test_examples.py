"""The example service works as it is printed."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_campaign_service(serving, fake):
    """The example builds a campaign, updates its audio and reports what was reused."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "campaign_service.py"), serving.target],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("completed: 3 steps executed, 1 reused\n")
    (update,) = fake.requests("TriggerUpdate")
    assert update.change_request.type == "audio.update"
    assert update.change_request.payload["volumeBoost"] == 1.2
