"""Scheme names: every form, both ways, and every refusal."""

import dataclasses
import os
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitgap.errors import SchemeError
from bitgap.quant.schemes import (
    KNOWN_SCHEMES,
    FullPrecision,
    Noise,
    RoundToNearest,
    Scheme,
    Seed,
    Stochastic,
    bits_per_weight,
    largest_level,
    parse_scheme,
)

bits = st.integers(2, 8)
granularities = st.sampled_from(["tensor", "channel", "g32", "g64", "g128"])
seeds = st.integers(0, 10**18 - 1)
schemes: st.SearchStrategy[Scheme] = st.one_of(
    st.just(FullPrecision()),
    st.builds(RoundToNearest, bits, granularities, st.sampled_from(["absmax", "mse"])),
    st.builds(Seed, bits),
    st.builds(Noise, st.floats(1e-250, 1e250), seeds),
    st.builds(Stochastic, bits, granularities, seeds),
)


@given(schemes)
def test_a_name_gives_its_scheme_back(scheme):
    assert parse_scheme(scheme.name) == scheme
    assert parse_scheme(scheme.name).name == scheme.name
    assert hash(parse_scheme(scheme.name)) == hash(scheme)


@given(schemes, schemes)
def test_two_schemes_share_a_name_only_when_equal(one, other):
    assert (one.name == other.name) == (one == other)


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("fp", FullPrecision()),
        ("rtn4-g128", RoundToNearest(4, "g128")),
        ("rtn2-tensor", RoundToNearest(2, "tensor")),
        ("rtn8-channel-mse", RoundToNearest(8, "channel", "mse")),
        ("seed4", Seed(4)),
        ("noise0.05-s3", Noise(0.05, 3)),
        ("stoch3-g32-s12", Stochastic(3, "g32", 12)),
    ],
)
def test_documented_forms_parse_and_are_canonical(text, scheme):
    assert parse_scheme(text) == scheme
    assert scheme.name == text


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("noise0.050-s03", "noise0.05-s3"),
        ("noise.5-s1", "noise0.5-s1"),
        ("noise1.0-s0", "noise1-s0"),
        ("noise1-s0", "noise1-s0"),
        ("noise0.00001-s1", "noise0.00001-s1"),
        ("noise0.1000000000000000055-s1", "noise0.1-s1"),
        ("stoch4-g128-s007", "stoch4-g128-s7"),
    ],
)
def test_other_ways_of_writing_a_number_become_canonical(written, canonical):
    assert parse_scheme(written).name == canonical


BITS_OR_GROUP = "rtn4 rtn1-g128 rtn9-g128 rtn4-g16 rtn04-g128 rtn４-g128 seed seed1 seed9 fp16"
SPELLING = "RTN4-g128 rtn4_g128 rtn4-g128-max seed4-g128 stoch4-g128 stoch4-g128-mse-s1"
NUMBERS = "noise0.05 noise0-s1 noise0.000-s1 noise-0.1-s1 noise1e-2-s1 noisenan-s1 noise1.-s1"
SEEDS = "noise0.1-s noise0.1-s-1 noise0.1-s1.5 stoch4-g128-s"
TOO_FAR = (f"noise{'9' * 700}-s1", f"noise0.{'0' * 400}1-s1", f"noise0.1-s{'9' * 19}")


@pytest.mark.parametrize(
    "text",
    [
        *f"{BITS_OR_GROUP} {SPELLING} {NUMBERS} {SEEDS}".split(),
        *TOO_FAR,
        *("", " fp", "fp\n", "fp fp", None, 4, []),
    ],
)
def test_an_unknown_scheme_is_refused_with_asked_forms_and_example(text):
    with pytest.raises(SchemeError) as refusal:
        parse_scheme(text)
    message = str(refusal.value)
    assert f"scheme {text!r} is not known" in message
    for form in ("fp", "rtn{2..8}-", "[-mse]", "seed{2..8}", "noise{t}-s{seed}", "stoch{2..8}-"):
        assert form in message
    assert message.endswith("for example rtn4-g128")


@pytest.mark.parametrize(
    "build",
    [
        lambda: RoundToNearest(9, "g128"),
        lambda: RoundToNearest(4, "g100"),
        lambda: RoundToNearest(4, "g128", "none"),
        lambda: Seed(1),
        lambda: Noise(0.0, 1),
        lambda: Noise(float("nan"), 1),
        lambda: Noise(float("inf"), 1),
        lambda: Noise(0.1, -1),
        lambda: Stochastic(4, "g128", -1),
    ],
)
def test_a_scheme_that_has_no_name_cannot_be_built(build):
    with pytest.raises(SchemeError, match="is not known"):
        build()


def test_schemes_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse_scheme("seed4").bits = 8  # type: ignore[attr-defined]


def test_help_shows_an_example_of_every_rounding_form():
    examples = [parse_scheme(name) for name in re.findall(r"Example: (\S+)", KNOWN_SCHEMES)]
    assert {type(scheme) for scheme in examples} == {RoundToNearest, Seed, Noise, Stochastic}


@given(schemes)
def test_only_the_origins_scheme_reaches_beyond_the_linears(scheme):
    assert scheme.scope == ("all-weights" if isinstance(scheme, Seed) else "linears")


def test_the_symmetric_narrow_range_ends_at_two_to_the_bits_less_one_less_one():
    assert [largest_level(b) for b in range(2, 9)] == [1, 3, 7, 15, 31, 63, 127]


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("fp", (768,), 16),
        ("noise0.05-s3", (256, 1024), 16),
        ("rtn4-g128", (256, 1024), 4 + 16 / 128),
        ("rtn4-g128-mse", (256, 1024), 4 + 16 / 128),
        ("rtn3-g32", (256, 1024), 3.5),
        ("rtn4-g128", (10, 200), 4 + 16 * 2 / 200),
        ("rtn4-g128", (10, 64), 4 + 16 / 64),
        ("rtn8-channel", (10, 200), 8 + 16 / 200),
        ("rtn2-tensor", (10, 200), 2 + 16 / 2000),
        ("stoch4-g64-s1", (10, 128), 4.25),
        ("seed4", (768,), 4 + 16 / 768),
        ("seed4", (10, 200), 4 + 16 / 2000),
    ],
)
def test_bits_per_weight_counts_one_fp16_scale_for_each_group(name, shape, expected):
    assert bits_per_weight(parse_scheme(name), shape) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["rtn4-g128", "rtn4-tensor", "noise0.1-s1", "stoch4-channel-s1"])
def test_schemes_for_linears_refuse_vectors_and_say_what_would_take_them(name):
    with pytest.raises(SchemeError, match=r"shape \(768,\).*matrices.*full precision.*seed"):
        bits_per_weight(parse_scheme(name), (768,))


@pytest.mark.parametrize("name", ["fp", "seed4", "rtn4-g128"])
def test_an_empty_weight_is_refused(name):
    with pytest.raises(SchemeError, match=rf"{name} .*shape \(0, 8\), which holds no numbers"):
        bits_per_weight(parse_scheme(name), (0, 8))


def test_schemes_and_plans_import_no_torch():
    code = "import sys, bitgap.quant.plan; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False)
    assert done.returncode == 0
