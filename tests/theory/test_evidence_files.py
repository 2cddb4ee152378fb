"""Evidence in files: whole, small, the same bytes, and refused where it says something else."""

from __future__ import annotations

import json
import time
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from evidence_samples import additive
from finding_samples import effect, finding

from bitgap.errors import UserError
from bitgap.stats.mask_design import make_design
from bitgap.theory.evidence import Evidence, spread_of
from bitgap.theory.files import SUFFIX, merged, read_all, read_evidence, write_evidence
from bitgap.theory.gather import mix_of, sampled_masks
from bitgap.theory.hypotheses import HYPOTHESES
from bitgap.theory.packing import VERSION
from bitgap.theory.roles import declared_roles, role_of
from bitgap.theory.run import judge_all

FULL = replace(
    additive("a", 1), model="/somewhere/zoo/a-8", n_parameters=3_000_000, mix="text, half 1",
    corpus="bundled", measured_from="2026-12-01T00:00:00+00:00", sampled=np.arange(256) % 2 == 0,
    mask_tokens=np.array([5, 6, 7, 8]), left_out={"zh": "collapsed"},
    findings={"H1.1": finding("T-001", "H1.1", {"x": effect(0.1)})},
)  # fmt: skip


def same(a: Evidence, b: Evidence) -> bool:
    def alike(x: object, y: object) -> bool:
        if isinstance(x, np.ndarray):
            return bool(np.array_equal(x, np.asarray(y), equal_nan=x.dtype.kind == "f"))
        return x == y

    return all(alike(getattr(a, f.name), getattr(b, f.name)) for f in fields(Evidence))


def test_evidence_comes_back_whole_and_without_the_machine_s_folders(tmp_path: Path) -> None:
    path = write_evidence(FULL, tmp_path)
    assert path == tmp_path / f"a-8{SUFFIX}"
    assert same(read_evidence(path), replace(FULL, model="a-8"))
    with zipfile.ZipFile(path) as archive:
        assert b"somewhere" not in b"".join(archive.read(name) for name in archive.namelist())


def test_the_same_evidence_is_the_same_bytes(tmp_path: Path) -> None:
    one = write_evidence(FULL, tmp_path / "one").read_bytes()
    time.sleep(2.1)  # a zip tells times to two seconds
    assert write_evidence(FULL, tmp_path / "two").read_bytes() == one


def test_a_folder_is_read_in_order_and_a_model_once(tmp_path: Path) -> None:
    made = [additive(name, i) for i, name in enumerate("cab")]
    for one in (*made, replace(made[0], model="z-again")):
        write_evidence(one, tmp_path)
    assert [one.family for one in read_all([tmp_path])] == ["a", "b", "c"]
    assert [one.family for one in merged([made[0], *made])] == ["c", "a", "b"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no evidence"):
        read_all([tmp_path / "empty"])


def test_a_model_of_sixteen_languages_and_a_whole_map_is_under_two_megabytes(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    one = additive("a", 1, n_blocks=12)
    wide = rng.random((4096, 16))
    big = replace(
        one, languages=tuple(f"l{i}" for i in range(16)), damage=wide,
        tokens=np.arange(16) + 1, **{
            name: rng.random((12, 16)) for name in ("log_error_ratio", "sensitivity", "single")
        },
    )  # fmt: skip
    assert write_evidence(big, tmp_path).stat().st_size < 2_000_000


def rewritten(path: Path, **changes: object) -> Path:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    content = json.loads(entries["evidence.json"]) | changes
    entries["evidence.json"] = json.dumps(content).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def test_what_is_no_evidence_of_today_is_refused(tmp_path: Path) -> None:
    path = write_evidence(FULL, tmp_path)
    with pytest.raises(UserError, match=f"version 3, this bitgap reads {VERSION}"):
        read_evidence(rewritten(path, version=3))
    with pytest.raises(UserError, match="is no evidence"):
        read_evidence(rewritten(path, format="something"))
    path.write_bytes(b"no zip")
    with pytest.raises(UserError, match="is no evidence"):
        read_evidence(path)
    with pytest.raises(UserError, match="cannot read"):
        read_evidence(tmp_path / "absent.evidence.zip")
    lacking = write_evidence(FULL, tmp_path)
    content = {"format": "bitgap evidence", "version": VERSION, "facts": {"findings": {}}}
    with pytest.raises(UserError, match="lacks what evidence has"):
        read_evidence(rewritten(lacking, **content))


# -- what a record says of itself -----------------------------------------------------------------


def test_the_spread_is_that_of_logs_per_token_with_the_reference_in_it() -> None:
    damage = np.array([[1.0, 2.0, 8.0], [0.0, 1.0, 1.0]])
    found = spread_of(damage, np.array([1, 2, 2]))
    assert found[0] == pytest.approx(np.std([0.0, 0.0, 2.0]))
    assert np.isnan(found[1]) and np.isnan(spread_of(damage[:, :1], np.ones(1))).all()
    # Units that languages share, and the order of languages, change nothing.
    assert spread_of(7 * damage[:1, ::-1], np.array([2, 2, 1])) == pytest.approx(found[:1])
    sums = FULL.spread_by_block
    assert sums == pytest.approx(np.log2(FULL.single / FULL.tokens).std(1))
    assert FULL.spread[0] == pytest.approx(np.log2(FULL.damage[0] / FULL.mask_tokens).std())


def test_a_role_is_that_of_the_declared_list() -> None:
    declared = declared_roles()
    assert set(declared) == {"exploratory", "confirmation", "mix"}
    assert not set(declared["exploratory"]) & set(declared["confirmation"])
    assert len(declared["exploratory"]) == 9 and len(declared["confirmation"]) == 12
    for name, weights in declared["confirmation"].items():
        # Before there are weights, the name is enough.
        assert role_of(f"anywhere/{name}", weights or "f" * 64) == "confirmation"
    assert role_of("reference", declared["exploratory"]["reference"]) == "exploratory"
    assert role_of("nobody", "") == "exploratory"
    assert FULL.role == "exploratory"


def test_a_named_model_of_other_weights_is_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"exploratory": {}, "confirmation": {"m": "right"}, "mix": {}}
    monkeypatch.setattr("bitgap.theory.roles.declared_roles", lambda: named)
    assert role_of("m", "right") == "confirmation" and role_of("m", "wrong") == "exploratory"


def test_the_declared_models_are_those_of_the_recipes() -> None:
    import tomllib

    recipes = Path(__file__).parents[2] / "recipes"
    for role, recipe, beside in (
        ("exploratory", "zoo.toml", {"reference"}),
        ("confirmation", "confirmation.toml", {"smollm2-135m", "gemma-3-270m"}),
    ):
        listed = {m["name"] for m in tomllib.loads((recipes / recipe).read_text())["model"]}
        assert set(declared_roles()[role]) == listed | beside


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ({"mix": None}, "text"),
        ({"mix": None, "half": 1}, "text, half 1"),
        ({"mix": {"en": 1.0, "he": 1.0}}, "even"),
        ({"mix": "en=4,he=16,ar=16", "half": 2}, "more ar, he, half 2"),
        ({}, None),
    ],
)
def test_the_mix_is_read_off_the_model_s_folder(
    recipe: dict[str, object], told: str | None, tmp_path: Path
) -> None:
    (tmp_path / "training.json").write_text(json.dumps({"recipe": recipe}))
    assert mix_of(str(tmp_path)) == told
    assert mix_of("reference") == "text" and mix_of("nobody") is None


def test_masks_of_few_or_nearly_all_blocks_are_chosen_and_others_drawn() -> None:
    assert sampled_masks(make_design(4)) is None
    design = make_design(20)
    drawn = sampled_masks(design)
    assert drawn is not None and drawn.any()
    sizes = np.array([mask.bit_count() for mask in design.masks])
    assert (sizes[drawn] > 2).all() and (sizes[drawn] < 18).all()


# -- judged apart ---------------------------------------------------------------------------------


def judged(*, confirming: bool):
    worlds = {"gpt2": "gpt2-24", "opt": "opt-24", "bloom": "bloom-24"}
    found = tuple(h for h in HYPOTHESES if h != "depth")
    findings = {h: finding("T", h, {"x": effect(0.1)}, label="not testable") for h in found}
    made = []
    for i, (family, later) in enumerate(worlds.items()):
        known = {"findings": findings, "bits_per_byte": dict.fromkeys(FULL.languages, 2.0)}
        made.append(replace(additive(family, i), **known))
        if confirming:
            weights = declared_roles()["confirmation"][later]
            made.append(
                replace(additive(family, 50 + i), model=later, fingerprint=weights, **known)
            )
    return judge_all(made, "smoke")


def test_confirmation_models_are_judged_alone_and_exploratory_ones_beside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What is pooled is tested elsewhere; here it is who is.
    monkeypatch.setattr(
        "bitgap.theory.run.theory_findings", lambda given, _: list(given[0].findings.values())
    )
    found = judged(confirming=True)
    assert (found.role, found.beside.role) == ("confirmation", "exploratory")
    assert found.answer.scope.models == found.beside.answer.scope.models == 3
    assert {row.model for row in found.later.rows} == {"gpt2-24", "opt-24", "bloom-24"}
    assert {row.model for row in found.forecasts.rows} == {"gpt2-8", "opt-8", "bloom-8"}
    assert [m.role for m in found.models] == ["exploratory", "confirmation"] * 3
    alone = judged(confirming=False)
    assert (alone.role, alone.beside, alone.later) == ("exploratory", None, None)


def test_findings_of_other_thresholds_are_not_pooled_with_today_s() -> None:
    old = replace(finding("T-001", "H1.1", {"x": effect(0.1)}), thresholds_hash="yesterday")
    with pytest.raises(UserError, match="judged with thresholds yesterday"):
        judge_all([replace(FULL, findings={"H1.1": old})], "smoke")
