"""The numbers of the page on calibration are those of its records."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
from docs_samples import DOCS


@pytest.fixture(scope="module")
def filler() -> ModuleType:
    spec = importlib.util.spec_from_file_location("filler", DOCS / "excerpts" / "calibration.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_its_records_say(filler: ModuleType) -> None:
    page = filler.PAGE.read_text("utf-8")
    assert filler.filled(page) == page, "run python docs/excerpts/calibration.py"


def test_a_number_that_was_typed_in_would_be_told(filler: ModuleType) -> None:
    page = filler.PAGE.read_text("utf-8")
    first = filler.found().splitlines()[2]
    assert first in page
    assert filler.filled(page.replace(first, first.replace(".", ",", 1), 1)) == page
