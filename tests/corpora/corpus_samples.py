"""Small corpora and the check on refusals that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitgap.corpora.parallel import load_corpus

EN = ["The cat sleeps.", "It rains.", "We read a book.", "Who is there?", "Good night."]
HE = ["החתול ישן.", "יורד גשם.", "אנחנו קוראים ספר.", "מי שם?", "לילה טוב."]
AR = ["القطة نائمة.", "إنها تمطر.", "نقرأ كتابًا.", "من هناك؟", "تصبح على خير."]


def write(folder: Path, **texts: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, lines in texts.items():
        (folder / f"{stem}.txt").write_bytes(("\n".join(lines) + "\n").encode())
    return folder


def refuses(error: type[Exception], *parts: str, spec: Path | str, **options: object) -> None:
    """The corpus is refused with exactly this error, whose message holds every part."""
    with pytest.raises(error) as caught:
        load_corpus(spec, **options)  # type: ignore[arg-type]
    assert caught.type is error
    for part in parts:
        assert part in str(caught.value)
