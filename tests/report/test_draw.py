"""Charts as files: drawn offline, whole or not at all, in a light and a dark theme."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bitgap.errors import UsageError
from bitgap.show import draw
from bitgap.show.charts import SCHEMA, Figure

Chart = dict[str, Any]


def chart(**changed: Any) -> Chart:
    across = {"field": "a", "type": "quantitative", "title": "length"}
    up = {"field": "b", "type": "nominal", "title": None}
    rows = [{"a": 1, "b": "one"}, {"a": 2, "b": "two"}]
    return {
        "$schema": SCHEMA, "title": "A title", "width": 80, "height": 40,
        "data": {"values": rows}, "mark": "point",
        "encoding": {"x": across, "y": up, "color": {"field": "b", "type": "nominal"}},
    } | changed  # fmt: skip


def figures(**specs: Chart) -> dict[str, Figure]:
    return {id_: Figure(id_, id_, "To be read.", "Is seen.", spec) for id_, spec in specs.items()}


def test_a_chart_says_its_title_and_axes():
    drawn = draw.svg(chart())
    assert drawn.startswith("<svg")
    assert all(f">{said}<" in drawn for said in ("A title", "length", "one", "two"))


@pytest.mark.parametrize("theme", sorted(draw.THEMES))
def test_a_theme_gives_page_ink_and_colours(theme: str):
    config, drawn = draw.THEMES[theme], draw.svg(chart(), theme)
    assert config["background"] in drawn
    assert config["title"]["color"] in drawn
    assert all(colour in drawn for colour in config["range"]["category"][:2])


def test_the_chart_s_own_spec_is_left_as_it_is():
    spec = chart()
    draw.svg(spec, "dark")
    assert spec == chart()


@pytest.mark.parametrize("theme", sorted(draw.THEMES))
def test_letters_can_be_read_on_their_page(theme: str):
    config = draw.THEMES[theme]
    for ink in (config["title"]["color"], config["axis"]["labelColor"], config["text"]["color"]):
        assert contrast(ink, config["background"]) >= 7
    assert contrast(config["title"]["subtitleColor"], config["background"]) >= 4.5


@pytest.mark.parametrize("theme", sorted(draw.THEMES))
def test_colours_of_a_theme_differ_and_are_seen_on_its_page(theme: str):
    config = draw.THEMES[theme]
    colours = config["range"]["category"]
    assert len(set(colours)) == len(colours) >= 7
    assert all(contrast(colour, config["background"]) >= 2 for colour in colours)


def test_png_has_as_many_pixels_as_the_scale_says():
    one, two = draw.png(chart(), scale=1), draw.png(chart(), scale=2)
    assert one.startswith(b"\x89PNG")
    wide = [int.from_bytes(image[16:20], "big") for image in (one, two)]
    assert wide[1] == pytest.approx(2 * wide[0], abs=2)


def test_pdf_is_one():
    assert draw.pdf(chart()).startswith(b"%PDF")


@pytest.mark.parametrize("kind", [draw.svg, draw.png, draw.pdf])
def test_numbers_that_are_none_are_refused(kind: Any):
    with pytest.raises(ValueError, match="not JSON compliant"):
        kind(chart(data={"values": [{"a": float("nan"), "b": "one"}]}))


def test_nothing_is_fetched():
    with pytest.raises(ValueError, match=r"(?i)url|access|allowed"):
        draw.svg(chart(data={"url": "https://example.org/rows.json"}))


def test_text_of_data_stays_text():
    drawn = draw.svg(chart(data={"values": [{"a": 1, "b": "<script>alert(1)</script>"}]}))
    assert "<script" not in drawn
    assert "&lt;script&gt;" in drawn


def test_the_bundle_can_be_put_in_a_page():
    code = draw.bundle()
    assert "globalThis.vegaEmbed" in code[-200:]
    assert not re.search(r"</script|<!--", code, re.IGNORECASE)
    assert len(code.encode()) < 2_000_000
    assert draw.bundle() is code


def test_every_figure_is_written_in_every_format(tmp_path: Path):
    written = draw.write_figures(figures(one=chart(), two=chart()), tmp_path, ["svg", "png", "pdf"])
    names = [f"{id_}.{kind}" for id_ in ("one", "two") for kind in ("svg", "png", "pdf")]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert (tmp_path / "one.svg").read_text("utf-8") == draw.svg(chart())


def test_files_are_drawn_light(tmp_path: Path):
    (path,) = draw.write_figures(figures(one=chart()), tmp_path, ["svg"])
    assert draw.THEMES["light"]["background"] in path.read_text("utf-8")


def test_a_format_that_is_not_drawn_is_told_before_anything_is_written(tmp_path: Path):
    with pytest.raises(UsageError, match="'gif' is not drawn; there are svg, png, pdf"):
        draw.write_figures(figures(one=chart()), tmp_path, ["svg", "gif"])
    assert not list(tmp_path.iterdir())


def test_a_figure_that_cannot_be_drawn_leaves_the_older_one_whole(tmp_path: Path):
    (tmp_path / "one.svg").write_text("older")
    with pytest.raises(ValueError, match="conversion failed"):
        draw.write_figures(figures(one=chart(mark="no such mark")), tmp_path, ["svg"])
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("one.svg", "older")]


def test_a_file_that_cannot_be_written_leaves_no_part_of_it(tmp_path: Path):
    (tmp_path / "one.svg").mkdir()
    with pytest.raises(OSError, match=r"one\.svg'$"):
        draw.write_figures(figures(one=chart()), tmp_path, ["svg"])
    assert [path.name for path in tmp_path.iterdir()] == ["one.svg"]


def contrast(one: str, other: str) -> float:
    """Returns the contrast ratio of two colours (WCAG 2)."""

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
