from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from packed_batches import PackedBatches

CONTEXT, BATCH = 8, 5


def streams() -> list[NDArray[np.uint16]]:
    """Three languages of different length; every number says whose it is and where it stands."""
    return [np.arange(n, dtype=np.uint16) + 1000 * i for i, n in enumerate((203, 90, 41))]


def batches(seed: int = 0, shares: tuple[float, ...] = (6, 3, 1)) -> PackedBatches:
    return PackedBatches(streams(), shares, batch=BATCH, context=CONTEXT, seed=seed)


def test_rows_are_stretches_of_one_stream() -> None:
    source = batches()
    for step in range(40):
        for row in source.take(step):
            language = int(row[0]) // 1000
            length = len(streams()[language])
            place = int(row[0]) - 1000 * language
            expected = (place + np.arange(CONTEXT + 1)) % length + 1000 * language
            np.testing.assert_array_equal(row, expected)


def test_every_window_comes_once_before_any_comes_twice() -> None:
    source, seen = batches(shares=(1, 1, 1)), {0: [], 1: [], 2: []}
    for step in range(60):
        for row in source.take(step):
            seen[int(row[0]) // 1000].append(int(row[0]))
    for language, stream in enumerate(streams()):
        n_windows = len(stream) // CONTEXT
        passes = [
            seen[language][i : i + n_windows]
            for i in range(0, len(seen[language]) - n_windows + 1, n_windows)
        ]
        assert len(passes) >= 3
        for starts in passes:
            places = np.sort(np.array(starts) - 1000 * language)
            assert (np.diff(places) == CONTEXT).all() and len(places) == n_windows
        assert len({starts[0] % CONTEXT for starts in passes}) > 1, "passes must cut differently"
        assert passes[0] != sorted(passes[0]), "windows must come in random order"


def test_each_batch_meets_the_shares_within_a_sequence_and_all_of_them_on_average() -> None:
    source, n_steps = batches(), 400
    counts = np.array(
        [np.bincount(source.take(step)[:, 0] // 1000, minlength=3) for step in range(n_steps)]
    )
    expected = BATCH * np.array([0.6, 0.3, 0.1])
    assert (np.abs(counts - expected) < 1).all()
    # A batch's count is one of two neighbours, so its standard deviation is at most a half.
    assert (np.abs(counts.mean(0) - expected) < 4 * 0.5 / np.sqrt(n_steps)).all()
    np.testing.assert_array_equal(source.drawn, counts.sum(0))


def test_a_resumed_source_gives_the_batches_it_would_have_given() -> None:
    whole, resumed = batches(), batches()
    expected = [whole.take(step) for step in range(50)]
    stopped = batches()
    for step in range(23):
        stopped.take(step)
    resumed.drawn[:] = stopped.drawn
    for step in range(23, 50):
        np.testing.assert_array_equal(resumed.take(step), expected[step])
    np.testing.assert_array_equal(resumed.drawn, whole.drawn)


@pytest.mark.parametrize("length", [2, 3, 8, 9])
def test_a_text_shorter_than_a_sequence_is_repeated(length: int) -> None:
    source = PackedBatches([np.arange(length)], [1], batch=2, context=8, seed=0)
    row = source.take(0)[0]
    np.testing.assert_array_equal((row - row[0]) % length, np.arange(9) % length)


def test_another_seed_gives_other_batches() -> None:
    assert not np.array_equal(batches(0).take(0), batches(1).take(0))
