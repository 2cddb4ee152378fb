"""Charts as files and as a library for pages, drawn without a browser and without a network.

Specifications are Vega-Lite; vl-convert draws them (Satyanarayan et al. 2017 for the grammar). A
theme is a Vega-Lite config and nothing else, so that one chart serves a light page, a dark page and
a file.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitgap.errors import MissingExtra, UsageError
from bitgap.files import write_bytes
from bitgap.show.charts import PALETTE, Chart

if TYPE_CHECKING:
    from bitgap.show.charts import Figure


FORMATS = ("svg", "png", "pdf")
_COUNTED = re.compile(r"\b(?:clip|gradient_)\d+\b")
_FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"


# Black of the palette of Okabe & Ito is no colour on a dark page.
_DARK_PALETTE = ("#56B4E9", "#E69F00", "#2FC79A", "#E59BC5", "#F0E442", "#8FA8FF", "#DDDDDD")


def _theme(ink: str, soft: str, grid: str, page: str, palette: Sequence[str]) -> Chart:
    axis = {"labelColor": ink, "titleColor": ink, "gridColor": grid, "domainColor": soft,
            "tickColor": soft, "labelFontSize": 11, "titleFontSize": 11.5, "titleFontWeight": 500,
            "titlePadding": 8, "labelLimit": 220, "labelSeparation": 5}  # fmt: skip
    return {
        "background": page,
        "font": _FONT,
        "mark": {"color": palette[0]},
        "view": {"stroke": None},
        "axis": axis,
        "legend": {"labelColor": ink, "titleColor": ink, "labelFontSize": 11, "titleFontSize": 11,
                   "titleFontWeight": 500, "symbolSize": 70, "labelLimit": 260},
        "title": {"color": ink, "anchor": "start", "frame": "group", "offset": 18, "fontSize": 13,
                  "fontWeight": 600, "subtitleColor": soft, "subtitleFontSize": 11.5},
        "header": {"labelColor": ink, "titleColor": ink},
        "range": {"category": list(palette)},
        "text": {"color": ink, "fontSize": 11},
        "rule": {"color": ink},
        "concat": {"spacing": 34},
    }  # fmt: skip


THEMES: Mapping[str, Chart] = {
    "light": _theme("#22252a", "#6b7078", "#e6e8eb", "#ffffff", PALETTE),
    "dark": _theme("#e6e8eb", "#9aa0a8", "#33373d", "#17191c", _DARK_PALETTE),
}
"""Vega-Lite configs by name."""


def svg(spec: Mapping[str, Any], theme: str = "light") -> str:
    """Returns a chart as SVG, the same however many were drawn before."""
    drawn = _converter().vegalite_to_svg(json.dumps(spec, allow_nan=False), config=THEMES[theme],
                                         allowed_base_urls=[])  # fmt: skip
    # The library goes on counting its clips and gradients from one chart to the next.
    names = list(dict.fromkeys(_COUNTED.findall(drawn)))
    order = {name: f"{name.rstrip('0123456789')}{i}" for i, name in enumerate(names)}
    return _COUNTED.sub(lambda found: order[found[0]], drawn)


def roomy(spec: Mapping[str, Any]) -> Chart:
    """Returns a chart with room for fonts that are wider than those it is measured in."""
    return {**spec, "padding": {"left": 22, "right": 36, "top": 5, "bottom": 5}}


def png(spec: Mapping[str, Any], theme: str = "light", scale: float = 2.0) -> bytes:
    """Returns a chart as PNG, ``scale`` pixels to a unit of the chart."""
    return _converter().vegalite_to_png(json.dumps(spec, allow_nan=False), config=THEMES[theme],
                                        scale=scale, allowed_base_urls=[])  # fmt: skip


def pdf(spec: Mapping[str, Any], theme: str = "light") -> bytes:
    """Returns a chart as PDF."""
    return _converter().vegalite_to_pdf(json.dumps(spec, allow_nan=False), config=THEMES[theme],
                                        allowed_base_urls=[])  # fmt: skip


@functools.cache
def bundle() -> str:
    """Returns Vega, Vega-Lite and vega-embed as one JavaScript module's text, to be put in a page.

    It ends by naming ``vegaEmbed`` in ``globalThis``.
    """
    code = "globalThis.vegaEmbed = vegaEmbed;"
    return _converter().javascript_bundle(code)


def write_figures(
    figures: Mapping[str, Figure], folder: Path, formats: Sequence[str]
) -> list[Path]:
    """Writes every figure in every format as ``<id>.<format>``, each whole or not at all.

    Args:
        figures: By id.
        folder: Is there.
        formats: Of :data:`FORMATS`.

    Returns:
        What was written, in order.

    Raises:
        UsageError: If a format is not drawn.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UsageError(f"{unknown[0]!r} is not drawn; there are {', '.join(FORMATS)}")
    drawings: Mapping[str, Callable[[Mapping[str, Any]], bytes]] = {
        "svg": lambda spec: svg(spec).encode(),
        "png": png,
        "pdf": pdf,
    }
    written = list[Path]()
    for id_, figure in figures.items():
        for name in formats:
            path = folder / f"{id_}.{name}"
            write_bytes(path, drawings[name](figure.spec))
            written.append(path)
    return written


def _converter() -> Any:
    try:
        import vl_convert
    except ImportError:
        raise MissingExtra(
            "charts need vl-convert-python, which is not installed; pip install vl-convert-python"
        ) from None
    return vl_convert
