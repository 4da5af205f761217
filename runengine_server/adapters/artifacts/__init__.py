"""Artifacts where they lie: whether they are still there, opening them, and clearing away what nothing refers to."""

from runengine_server.adapters.artifacts.configured import Artifacts, open_artifacts
from runengine_server.adapters.artifacts.probe import RootedArtifactProbe
from runengine_server.adapters.artifacts.roots import ArtifactRootError, parse_roots

__all__ = ["ArtifactRootError", "Artifacts", "RootedArtifactProbe", "open_artifacts", "parse_roots"]
