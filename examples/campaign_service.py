"""A service that builds campaigns with RunEngine: start a build, change its audio, look at its state.

Run it against a server that knows `campaign.build.v1`:

    python examples/campaign_service.py [HOST:PORT]
"""

import asyncio
import sys
from collections.abc import Mapping

from runengine_client import RunEngineClient
from runengine_client.types import Run


class CampaignService:
    """Builds campaigns; it is given the client, as any other collaborator."""

    def __init__(self, run_engine: RunEngineClient) -> None:
        """Keep the client; whoever made it closes it."""
        self._run_engine = run_engine

    async def build_campaign(self, campaign_id: str, brief: Mapping[str, object]) -> str:
        """Start an initial build and return its run id."""
        return await self._run_engine.trigger("campaign.build.v1", {"campaignId": campaign_id, "brief": brief})

    async def update_campaign_audio(self, base_run_id: str, audio_config: Mapping[str, object]) -> str:
        """Start a partial rebuild of a completed build and return the new run's id."""
        return await self._run_engine.trigger_update(base_run_id, "audio.update", audio_config)

    async def get_campaign_status(self, run_id: str) -> Run:
        """The run as it is now."""
        return await self._run_engine.get_run(run_id)


async def main(target: str) -> None:
    """Build a campaign, make its audio epic, and say what that saved."""
    async with RunEngineClient(target) as run_engine:
        campaigns = CampaignService(run_engine)
        run_id = await campaigns.build_campaign(
            "123e4567-e89b-12d3-a456-426614174000", {"title": "Summer Sale Campaign", "style": "energetic"}
        )
        await run_engine.run(run_id).result()
        update_id = await campaigns.update_campaign_audio(run_id, {"audioStyle": "epic", "volumeBoost": 1.2})
        await run_engine.run(update_id).result()
        status = await campaigns.get_campaign_status(update_id)
        summary = status.steps_summary
        print(f"run {status.id} {status.status}: {summary.completed} steps executed, {summary.skipped} reused")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"))
