"""docs/exports.md says of every target and architecture what the code says today."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitgap.formats.source import Source
from bitgap.formats.targets import TARGETS, find_target
from bitgap.jobs.export import nearest_recipe
from validation.exports import SHAPES, opened, recipe_for, refused

PAGE = Path(__file__).parents[2] / "docs" / "exports.md"


def rows(columns: int) -> list[list[str]]:
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in PAGE.read_text("utf-8").splitlines()
    ]
    return [line for line in lines if len(line) == columns and line[0] in TARGETS]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[bool, str], Source]:
    home = tmp_path_factory.mktemp("page")
    return {
        (is_gguf, shape): opened(find_target(name), shape, home / f"{name}-{shape}")
        for is_gguf, name in ((True, "gguf"), (False, "mlx"))
        for shape in SHAPES
    }


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_refused_and_held_is_what_the_page_says(
    name: str, sources: dict[tuple[bool, str], Source]
) -> None:
    target = find_target(name)
    told = {row[1]: row for row in rows(9) if row[0] == name}
    assert [*told] == [*SHAPES]
    reasons = {tuple(row[1:]) for row in rows(4) if row[0] == name}
    seen: set[tuple[str, ...]] = set()
    for shape in SHAPES:
        source = sources[name == "gguf", shape]
        recipe = recipe_for(source)
        found = refused(target, source, recipe)
        seen |= {(scheme, nearest, why) for scheme, why, nearest in found}
        near = nearest_recipe(target, recipe, source) if found else recipe
        n_rounded = sum(scheme != "fp" for scheme in near.schemes.values())
        held, matrices, by = told[shape][2:5]
        if n_rounded == 0:
            assert held == "refused"
            continue
        assert held == ("nearest" if found else "as asked")
        assert matrices == f"{n_rounded} of {len(source.places)}"
        assert by == "its toolchain", "the page is of an environment that has them all"
    assert seen == reasons
