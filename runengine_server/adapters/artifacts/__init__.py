"""Artifacts where they lie: whether they are still there."""

from runengine_server.adapters.artifacts.probe import RootedArtifactProbe
from runengine_server.adapters.artifacts.roots import ArtifactRootError, parse_roots

__all__ = ["ArtifactRootError", "RootedArtifactProbe", "parse_roots"]
