"""The notebook in docs/ runs from its first cell to its last, and says what it promises."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tour.ipynb"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list:
    # A kernel started by a test leaves sockets to the interpreter's end.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nbformat
        from nbclient import NotebookClient

        folder = tmp_path_factory.mktemp("tour")
        shutil.copy(NOTEBOOK, folder)
        notebook = nbformat.read(folder / NOTEBOOK.name, as_version=4)
        NotebookClient(
            notebook,
            timeout=280,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
        ).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def said(cell) -> str:
    return "\n".join(
        output.data.get("text/html", "") + output.data.get("text/plain", "")
        for output in cell.outputs
        if output.output_type == "execute_result"
    )


@pytest.mark.timeout(290)
def test_every_cell_shows_a_result(cells) -> None:
    assert len(cells) >= 8
    for cell in cells:
        assert said(cell), cell.source


def test_results_show_themselves_as_tables(cells) -> None:
    report, frame = said(cells[1]), said(cells[2])
    assert "rtn3-g128" in report and "<pre" in report
    assert "<table" in frame and "damage_low" in frame
    assert "T-007" in said(cells[4])


def test_a_second_run_measures_nothing(cells) -> None:
    assert said(cells[-1]) == "(True, True)"


def test_the_notebook_is_kept_without_outputs() -> None:
    import nbformat

    kept = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in kept.cells)
    assert all(cell.get("execution_count") is None for cell in kept.cells)
