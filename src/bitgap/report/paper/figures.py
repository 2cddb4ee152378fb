"""Figures of a paper: those of the run, drawn for print, each beside what it belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitgap.report.paper.text import sentence
from bitgap.report.run import Run
from bitgap.show.draw import roomy, svg

_LINE_CM, _HEIGHT_CM = 15.8, 19.0


# Pixels of a chart to a line of text, so that its letters come out a little smaller than a caption.
_PIXELS = 620


# A chart of panels higher than this, over its width, gets another column.
_TALL, _COLUMNS = 1.15, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperFigure:
    """One figure, drawn."""

    id: str
    caption: str
    alt: str
    file: str
    svg: str
    label: str
    """What the paper's text calls it by."""
    width: str
    """How wide it is set, as Typst has it."""


def paper_figures(
    run: Run, *, prefix: str = "", only: Sequence[str] | None = None
) -> Mapping[str, PaperFigure]:
    """Returns a run's figures by id.

    Args:
        run: The run.
        prefix: Before their file names, where several runs share a folder.
        only: Ids to draw; all when None.
    """
    from bitgap.report.figures.run import run_figures

    drawn = dict[str, PaperFigure]()
    for id_, figure in run_figures(run).items():
        if only is None or id_ in only:
            made = _for_a_page(figure.spec)
            drawn[id_] = PaperFigure(
                id=id_,
                caption=f"{sentence(figure.title)} {sentence(figure.caption)}",
                alt=figure.alt,
                file=f"{prefix}{id_}.svg",
                label=f"{prefix}{id_}",
                svg=made,
                width=_width(made),
            )
    return drawn


def _for_a_page(spec: Mapping[str, Any]) -> str:
    """Returns a chart with as many panels side by side as a page needs to hold it."""
    spec = roomy(spec)
    made = svg(spec)
    if "concat" not in spec:
        return made
    columns = int(spec.get("columns", 1))
    while _tall(made) and columns < min(_COLUMNS, len(spec["concat"])):
        columns += 1
        made = svg({**spec, "columns": columns})
    return made


def _size(drawn: str) -> tuple[float, float]:
    """Returns width and height of an SVG in its own pixels."""
    found = dict(re.findall(r'\b(width|height)="([\d.]+)"', drawn[: drawn.index(">")]))
    return float(found["width"]), float(found["height"])


def _tall(drawn: str) -> bool:
    width, height = _size(drawn)
    return height > _TALL * width


def _width(drawn: str) -> str:
    """Returns the width at which letters have their size and the figure fits on a page."""
    width, height = _size(drawn)
    share = min(1.0, width / _PIXELS)
    return f"{min(share * _LINE_CM, _HEIGHT_CM * width / height):.2f}cm"
