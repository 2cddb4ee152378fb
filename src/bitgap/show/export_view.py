"""What ``bitgap export`` and ``bitgap verify`` print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.text import Text

from bitgap.show.tables.export import held_table, logits_table
from bitgap.show.to_terminal import bullets, spaced, titled
from bitgap.show.words import duration, size

Json = Mapping[str, Any]


def export_view(result: Json) -> Any:
    """Shows the verifications of one command."""
    return spaced(*(_one(made) for made in result["exports"]))


def tasks_view(made: Json) -> Any:
    """Shows which tasks were written, and how they are run."""
    listed = [f"{group}: {len(tasks)} languages" for group, tasks in made["groups"].items()]
    if made["without_pairs"]:
        listed.append(f"no minimal pairs: {', '.join(made['without_pairs'])}")
    command = f"lm_eval --include_path {made['folder']} --tasks {','.join(made['groups'])}"
    return spaced(Group(*bullets(listed)), Text(command, style="bold"))


def _one(made: Json) -> Any:
    asked = sum(unit["recipe_bytes"] for unit in made["units"])
    how = "loaded back, counted and compared" if made["loaded"] else "counted; not loaded back"
    where = "on disk"
    if made.get("configures"):
        how, where = "a configuration, read back and counted", "foretold of what it makes"
    parts: list[Any] = [
        Text(f"{made['target']}: {how}, in {duration(made['took_s'])}", style="bold"),
        Text(
            f"{size(made['file_bytes'])} {where}; units take {made['units_bytes']:,} bytes, "
            f"{asked:,} in the recipe"
        ),
        titled(held_table(made)),
    ]
    if made["logits"]:
        parts.append(titled(logits_table(made)))
    if made["notes"]:
        parts += bullets(made["notes"])
    return Group(*parts)
