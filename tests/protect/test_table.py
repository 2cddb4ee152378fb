"""Units, choices and tables: what cannot be is refused, and what was written is read back."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bitgap.codec import decode, encode
from bitgap.errors import PlanError, StoreError
from bitgap.protect.example import TABLE
from bitgap.protect.records import TIED, Choice, DamageTable, Matrix, TableFacts, Unit, check_units
from bitgap.protect.tables import draws_of, on_sentences, permuted, read_table, write_table


def unit(name: str = "0.o", matrix: str = "w", kind: str = "o") -> Unit:
    return Unit(name=name, kind=kind, block=0, matrices=(Matrix(name=matrix, n_out=4, n_in=8),))


def test_a_tied_matrix_is_counted_once() -> None:
    tied = Unit(
        name="embedding", kind=TIED, block=None, matrices=(Matrix(name="e", n_out=4, n_in=8),)
    )
    check_units([tied])
    assert tied.n_weights == 32
    with pytest.raises(PlanError, match="matrix 'e' is there twice; a tied matrix is one unit"):
        check_units([tied, unit("head", "e", "head")])


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ([], "without units"),
        ([unit(), unit(matrix="v")], "unit '0.o' is there twice"),
        ([replace(unit(), matrices=())], "holds no matrix"),
    ],
)
def test_units_that_cannot_be_are_refused(units: list[Unit], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        check_units(units)


def test_a_choice_takes_all_its_parts() -> None:
    one = Choice(
        scheme="rtn4-g64", bits=4.0, group="g64", codes_bytes=512, scales_bytes=32, zeros_bytes=8,
        padding_bytes=16,
    )  # fmt: skip
    assert one.size_bytes == 568
    assert decode(Choice, encode(one)) == one
    with pytest.raises(ValueError, match="below 0"):
        replace(one, padding_bytes=-1)
    with pytest.raises(ValueError, match="holds nothing"):
        Matrix(name="w", n_out=0, n_in=3)


def test_facts_survive_json() -> None:
    assert decode(TableFacts, encode(TABLE.facts)) == TABLE.facts


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"reference": "fr"}, "reference 'fr' is not among"),
        ({"left_out": {"fr": "collapsed"}}, "'fr' is left out, but not among"),
        ({"choices": TABLE.facts.choices[:2]}, "one row a unit"),
        ({"schemes": ("a", "b", "c", "d", "e", "f")}, "stands where 'a' belongs"),
        ({"choices": ((None,) * 6, *TABLE.facts.choices[1:])}, "'embedding' has no choice"),
    ],
)
def test_facts_that_contradict_each_other_are_refused(how: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TABLE.facts, **how)


def test_damage_that_is_no_number_is_refused_unless_the_language_is_left_out() -> None:
    damage = TABLE.damage_bits.copy()
    damage[2, 0, 1] = np.nan
    with pytest.raises(ValueError, match="damage to he of embedding under rtn3-g64 is no number"):
        DamageTable(facts=TABLE.facts, damage_bits=damage)
    facts = replace(TABLE.facts, left_out={"he": "collapsed at 3 bits"})
    assert DamageTable(facts=facts, damage_bits=damage).counted == ("en", "de")


def test_a_choice_that_is_not_there_needs_no_number() -> None:
    row = TABLE.facts.choices[0]
    facts = replace(TABLE.facts, choices=((None, *row[1:]), *TABLE.facts.choices[1:]))
    damage = TABLE.damage_bits.copy()
    damage[:, 0, 0] = np.nan
    table = DamageTable(facts=facts, damage_bits=damage)
    assert not table.there[0, 0]
    assert table.size_bytes[0, 0] == 0
    assert table.sampled is None


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"damage_bits": np.ones((3, 7, 5))}, r"damage_bits has shape \(3, 7, 5\)"),
        ({"characters": None}, "sentence_bits has shape"),
        ({"documents": np.zeros(3, dtype=np.int64)}, "documents has shape"),
        ({"draws_bits": np.ones((2, 3, 7, 5))}, "draws_bits has shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(how: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TABLE, **how)


def test_a_table_is_the_same_bytes_each_time_and_the_same_table_when_read(tmp_path: Path) -> None:
    one, two = tmp_path / "one.zip", tmp_path / "two.zip"
    documents = np.arange(24) // 3
    table = replace(TABLE, documents=documents, draws_bits=np.ones((2, 3, 7, 6)))
    write_table(table, one)
    write_table(table, two)
    assert one.read_bytes() == two.read_bytes()
    again = read_table(one)
    assert again.digest == table.digest != TABLE.digest
    for name, values in table.arrays().items():
        assert np.array_equal(again.arrays()[name], values)
    assert {p.name for p in tmp_path.iterdir()} == {"one.zip", "two.zip"}


def _rewritten(path: Path, **entries: bytes | None) -> Path:
    """Writes the table's file anew, with some entries changed or dropped."""
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    held = {**held, **{k.replace("__", "."): v for k, v in entries.items()}}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in held.items():
            if data is not None:
                archive.writestr(name, data)
    return path


def test_what_is_no_table_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "table.zip"
    path.write_bytes(b"nothing")
    with pytest.raises(StoreError, match="is no damage table"):
        read_table(path)
    write_table(TABLE, path)
    with pytest.raises(StoreError, match="is no damage table"):
        read_table(_rewritten(path, table__json=b"{}"))
    write_table(TABLE, path)
    content = zipfile.ZipFile(path).read("table.json")
    with pytest.raises(StoreError, match="version 7"):
        read_table(_rewritten(path, table__json=content.replace(b'"version": 1', b'"version": 7')))
    write_table(TABLE, path)
    with pytest.raises(StoreError, match="is not what was written"):
        read_table(_rewritten(path, table__json=content.replace(b'"example"', b'"exanple"')))
    write_table(TABLE, path)
    with pytest.raises(StoreError, match="does not fit"):
        read_table(_rewritten(path, damage_bits__npy=None))
    with pytest.raises(StoreError, match="cannot write the table"):
        write_table(TABLE, tmp_path / "nowhere" / "table.zip")


def test_resampling_is_joint_and_whole_texts_give_the_table() -> None:
    assert np.allclose(on_sentences(TABLE, np.arange(24)).damage_bits, TABLE.damage_bits)
    one, two = draws_of(TABLE, 2, seed=3), draws_of(TABLE, 2, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    # A noise that all units share leaves their ratios alone in every draw.
    (drawn,) = draws_of(TABLE, 1, seed=0)
    ratios = TABLE.damage_bits[:, :, 1] / TABLE.damage_bits[:, :, 0]
    assert np.allclose(drawn[:, :, 1] / drawn[:, :, 0], ratios)


def test_a_table_without_sentences_has_its_own_draws_or_none() -> None:
    bare = replace(TABLE, sentence_bits=None, characters=None)
    with pytest.raises(StoreError, match="holds no sentences"):
        next(draws_of(bare, 1, seed=0))
    with pytest.raises(StoreError, match="holds no sentences"):
        permuted(bare, np.random.default_rng(0))
    own = replace(bare, draws_bits=np.arange(2 * 3 * 7 * 6.0).reshape(2, 3, 7, 6))
    assert next(draws_of(own, 1, seed=0))[0, 0, 0] == 0
    with pytest.raises(StoreError, match="holds 2 draws, 3 are needed"):
        list(draws_of(own, 3, seed=0))


def test_permuted_labels_keep_the_mean_and_lose_the_languages() -> None:
    placebo = permuted(TABLE, np.random.default_rng(0))
    assert np.allclose(placebo.damage_bits.mean(0), TABLE.damage_bits.mean(0))
    spread = np.ptp(np.log(TABLE.damage_bits), axis=0)
    assert np.ptp(np.log(placebo.damage_bits), axis=0).mean() < 0.6 * spread.mean()
    left = replace(TABLE, facts=replace(TABLE.facts, left_out={"de": "collapsed"}))
    kept = permuted(left, np.random.default_rng(0))
    assert np.array_equal(kept.sentence_bits[1], TABLE.sentence_bits[1])  # type: ignore[index]
