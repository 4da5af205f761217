"""How the command shows where an artifact comes from."""

from rich.text import Text
from rich.tree import Tree

from runengine_client.cli import wording
from runengine_client.types import Artifact, Lineage


def lineage_tree(lineage: Lineage) -> Tree:
    """The artifact asked for with what it was made from below it; what occurs again is only named."""
    by_id = {artifact.id: artifact for artifact in lineage.artifacts}
    sources: dict[str, list[str]] = {}
    for edge in lineage.edges:
        sources.setdefault(edge.to_artifact_id, []).append(edge.from_artifact_id)
    root = lineage.artifacts[0]
    tree = Tree(_described(root), guide_style="bright_black")
    shown = {root.id}
    pending = [(root.id, tree)]
    while pending:
        artifact_id, branch = pending.pop(0)
        for source in sources.get(artifact_id, ()):
            if source in shown:
                branch.add(Text(f"{_name(by_id[source])}, see elsewhere", style="bright_black"))
            else:
                shown.add(source)
                pending.append((source, branch.add(_described(by_id[source]))))
    return tree


def _described(artifact: Artifact) -> Text:
    facts = f" ({artifact.type}, {wording.size(artifact.size_bytes)})"
    skill = " ".join(filter(None, (artifact.skill_id, artifact.skill_version)))
    by = f" with {skill}" if skill else ""
    made = f" made by {artifact.step_id}{by} in run {artifact.run_id}" if artifact.run_id else " of a run that is gone"
    return Text.assemble((_name(artifact), "bold"), facts, made)


def _name(artifact: Artifact) -> str:
    return artifact.filename or artifact.id
