from __future__ import annotations

from pathlib import Path

import pytest
from corpus_samples import AR, EN, HE, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "pets", en=EN, he=HE, ar=AR)
