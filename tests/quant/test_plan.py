"""Plans: text both ways, masks, and every refusal."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitgap.errors import PlanError, SchemeError
from bitgap.quant.plan import Plan, mask_plans
from bitgap.quant.variants import Variant, parse_variant

NAMES = ["fp", "rtn4-g128", "rtn8-g128", "rtn3-g32-mse", "seed4", "seed8", "noise0.05-s3"]
names = st.sampled_from(NAMES)
matrix_schemes = st.sampled_from([name for name in NAMES if not name.startswith("seed")])
units = st.dictionaries(st.sampled_from(["v", "mlp.down", "experts.w1.12"]), matrix_schemes)
variants = names | st.builds(lambda s, u: Variant(s, u).name, matrix_schemes, units)
plans = st.builds(
    Plan, st.lists(variants, min_size=1, max_size=14).map(tuple), embedding=names, head=names
)


@given(plans)
def test_a_plans_text_gives_the_plan_back(plan):
    again = Plan.parse(plan.text, len(plan.blocks))
    assert again == plan
    assert hash(again) == hash(plan)
    assert again.text == plan.text


@given(st.data())
def test_two_plans_share_a_text_only_when_equal(data):
    some = [*NAMES[:3], "fp/rtn4-g128@v", "rtn4-g128/fp@v", "rtn4-g128/fp@up"]
    few = st.lists(st.sampled_from(some), min_size=3, max_size=3).map(tuple)
    ends = st.sampled_from(["fp", "seed4"])
    one, other = (data.draw(st.builds(Plan, few, ends, ends)) for _ in range(2))
    assert (one.text == other.text) == (one == other)


@given(plans, st.randoms())
def test_options_may_come_in_any_order(plan, random):
    base, *words = plan.text.split()
    options = [words[i : i + 2] for i in range(0, len(words), 2)]
    random.shuffle(options)
    shuffled = " ".join([base, *(word for option in options for word in option)])
    assert Plan.parse(shuffled, len(plan.blocks)) == plan


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("fp", "fp"),
        ("fp protect 3", "fp"),
        ("rtn4-g128", "rtn4-g128"),
        ("rtn4-g128 protect 11,0", "rtn4-g128 protect 0,11"),
        ("rtn4-g128  protect 0, 9 ,11", "rtn4-g128 protect 0,9,11"),
        ("rtn4-g128 protect 0-2", "rtn4-g128 protect 0,1,2"),
        ("rtn4-g128 protect 0-11", "fp"),
        ("rtn4-g128 blocks 0=fp", "rtn4-g128 protect 0"),
        ("fp blocks 1-11=rtn4-g128", "rtn4-g128 protect 0"),
        ("rtn4-g128 blocks 0-8=rtn3-g32", "rtn3-g32 blocks 9-11=rtn4-g128"),
        (
            "rtn4-g128 blocks 3=rtn8-g128,5-7=rtn3-g32",
            "rtn4-g128 blocks 3=rtn8-g128,5-7=rtn3-g32",
        ),
        ("rtn4-g128 blocks 5=rtn3-g32, 6 = rtn3-g32", "rtn4-g128 blocks 5-6=rtn3-g32"),
        (
            "rtn4-g128 head rtn8-channel blocks 3=rtn8-g128 embedding rtn8-g32 protect 1",
            "rtn4-g128 protect 1 blocks 3=rtn8-g128 embedding rtn8-g32 head rtn8-channel",
        ),
        ("seed4 protect 0", "seed4 protect 0"),
        ("seed4 embedding seed4 head seed4", "seed4"),
        ("seed4 embedding fp", "seed4 embedding fp"),
        ("seed4 protect 0-11", "fp embedding seed4 head seed4"),
        ("noise0.050-s03 protect 1", "noise0.05-s3 protect 1"),
        ("rtn4-g128 units v=rtn4-g128", "rtn4-g128"),
        ("rtn4-g128 units v=fp", "rtn4-g128 units 0-11.v=fp"),
        ("fp units 3.up = rtn3-g32, 2.up=rtn3-g32", "fp units 2-3.up=rtn3-g32"),
        (
            "rtn4-g128 units 11.v=fp,mlp.up=rtn6-g128,0-4.v=fp protect 3",
            "rtn4-g128 protect 3 units 0-11.mlp.up=rtn6-g128,0-2.v=fp,4.v=fp,11.v=fp",
        ),
    ],
)
def test_every_way_of_writing_a_plan_has_one_canonical_text(written, canonical):
    assert Plan.parse(written, 12).text == canonical


@pytest.mark.parametrize(("first", "second"), [("rtn8-g32", "rtn4-g32"), ("rtn4-g32", "rtn8-g32")])
def test_a_tie_between_schemes_goes_to_the_first_block(first, second):
    plan = Plan(("fp", first, second, second, first))
    assert plan.text == f"{first} protect 0 blocks 2-3={second}"


def test_embedding_and_head_follow_the_base_only_where_its_scope_is_all_weights():
    assert Plan.parse("seed4 protect 1", 2) == Plan(("seed4", "fp"), "seed4", "seed4")
    assert Plan.parse("rtn4-g128 protect 1", 2) == Plan(("rtn4-g128", "fp"), "fp", "fp")


def test_names_are_made_canonical_so_that_equal_plans_are_equal():
    plan = Plan(["noise0.050-s03"], head="noise.1-s1")  # type: ignore[arg-type]
    assert plan == Plan(("noise0.05-s3",), head="noise0.1-s1")
    assert len({plan, Plan(("noise0.05-s3",), head="noise0.1-s1")}) == 1


@given(names, st.integers(1, 14), st.data())
def test_uniform_protects_exactly_what_it_is_told(scheme, n_blocks, data):
    kept = data.draw(st.sets(st.integers(0, n_blocks - 1)))
    plan = Plan.uniform(scheme, n_blocks, kept)
    protected = set(range(n_blocks)) if scheme == "fp" else kept
    assert plan.protected == tuple(sorted(protected))
    assert {plan.blocks[i] for i in range(n_blocks) if i not in protected} <= {scheme}


@given(names, st.integers(1, 10), st.data())
def test_a_masks_bits_are_the_protected_blocks(scheme, n_blocks, data):
    mask = data.draw(st.integers(0, 2**n_blocks - 1))
    (plan,) = mask_plans(scheme, n_blocks, [np.int64(mask)])
    kept = [block for block in range(n_blocks) if mask >> block & 1]
    assert plan == Plan.uniform(scheme, n_blocks, kept)
    assert plan.mask == (2**n_blocks - 1 if scheme == "fp" else mask)


def test_all_masks_have_different_texts_that_parse_back():
    plans = mask_plans("rtn4-g128", 6, range(64))
    assert len({plan.text for plan in plans}) == 64
    assert [Plan.parse(plan.text, 6).mask for plan in plans] == list(range(64))


def test_full_precision_means_embedding_and_head_too():
    assert Plan.parse("fp", 3).is_full_precision
    assert Plan.parse("rtn4-g128 protect 0-2", 3).is_full_precision
    assert not Plan.parse("rtn4-g128 protect 0-1", 3).is_full_precision
    assert not Plan.parse("fp head rtn8-g128", 3).is_full_precision
    assert not Plan.parse("fp embedding rtn8-g128", 3).is_full_precision


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "word 1 is missing; expected a scheme such as rtn4-g128"),
        ("   ", "word 1 is missing"),
        ("protect 0", "word 1: scheme 'protect' is not known"),
        ("rtn9-g128", "word 1: scheme 'rtn9-g128' is not known; the forms are"),
        (
            "rtn4-g128 protekt 0",
            "word 2 is 'protekt'; expected protect, blocks, units, embedding or head",
        ),
        ("rtn4-g128 protect", "word 3 is missing; expected block numbers such as 0,9,11 or 0-2"),
        ("rtn4-g128 head", "word 3 is missing; expected a scheme such as rtn8-channel"),
        ("rtn4-g128 embedding", "word 3 is missing; expected a scheme"),
        ("rtn4-g128 blocks", "word 3 is missing; expected blocks and schemes such as 3=rtn8-g128"),
        (
            "rtn4-g128 protect 0 1",
            "word 4 is '1'; expected protect, blocks, units, embedding or head",
        ),
        ("rtn4-g128 protect 0 protect 1", "word 4 is 'protect' again; expected each option once"),
        ("rtn4-g128 protect 0,x", "word 3 has 'x'; expected block numbers such as 0,9,11"),
        ("rtn4-g128 protect 0,", "word 3 has ''; expected block numbers such as 0,9,11"),
        ("rtn4-g128 protect -1", "word 3 has '-1'; expected block numbers"),
        ("rtn4-g128 protect 5-2", "word 3 has '5-2'; expected the smaller number first, 2-5"),
        ("rtn4-g128 protect 0-3,2", "word 3 names block 2 twice; expected each block once"),
        ("rtn4-g128 protect 12", "block 12 was asked for, but the model has 12 blocks; valid num"),
        ("rtn4-g128 protect 12", "valid numbers are 0 to 11"),
        ("rtn4-g128 protect 0-999999999", "valid numbers are 0 to 11"),
        ("rtn4-g128 blocks 12=rtn8-g128", "valid numbers are 0 to 11"),
        ("rtn4-g128 blocks 3", "word 3 has '3'; expected blocks and schemes such as 3=rtn8-g128"),
        ("rtn4-g128 blocks 3=fp,=fp", "word 3 has ''; expected block numbers"),
        ("rtn4-g128 blocks 3=rtn9", "word 3: scheme 'rtn9' is not known"),
        ("rtn4-g128 blocks 3=fp,3=seed4", "word 3 names block 3 twice"),
        ("rtn4-g128 protect 3 blocks 3=seed4", "block 3 twice, under protect and under blocks"),
        ("rtn4-g128 head rtn9 protect 0", "word 3: scheme 'rtn9' is not known"),
        ("rtn4-g128 units", "word 3 is missing; expected matrices and schemes such as"),
        ("rtn4-g128 units v", "word 3 has 'v'; expected matrices and schemes"),
        ("rtn4-g128 units 3=fp", "word 3 has '3=fp'; expected matrices and schemes"),
        ("rtn4-g128 units 3.=fp", "word 3 has '3.=fp'; expected matrices and schemes"),
        ("rtn4-g128 units 12.v=fp", "valid numbers are 0 to 11"),
        ("rtn4-g128 units 3-.v=fp", "word 3 has '3-'; expected block numbers"),
        ("rtn4-g128 units v=fp,3.v=rtn8-g128", "word 3 gives v of block 3 twice"),
        ("rtn4-g128 units v=rtn9", "word 3: scheme 'rtn9' is not known"),
        ("seed4 units v=fp", "norm gains too, so single matrices (v) cannot differ"),
        ("rtn4-g128 units v=seed4", "seed4 is for all weights of a block"),
    ],
)
def test_a_malformed_text_is_refused_with_the_word_and_what_was_expected(text, message):
    with pytest.raises(PlanError) as refusal:
        Plan.parse(text, 12)
    assert message in str(refusal.value)


def test_refusals_quote_the_plan():
    with pytest.raises(PlanError, match="plan 'rtn4-g128 protekt 0': word 2"):
        Plan.parse("rtn4-g128 protekt 0", 12)


@given(st.text(alphabet="rtn48-g12fpseed ,=.0protecblkshadmiu", max_size=40))
def test_no_text_whatever_raises_anything_but_a_plan_error(text):
    try:
        plan = Plan.parse(text, 5)
    except PlanError:
        return
    assert Plan.parse(plan.text, 5) == plan


def test_something_that_is_no_text_is_refused():
    with pytest.raises(PlanError, match=r"plan 4 is no text; write one such as"):
        Plan.parse(4, 12)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "build",
    [
        lambda: Plan(()),
        lambda: Plan.uniform("rtn4-g128", 0),
        lambda: Plan.parse("fp", 0),
        lambda: mask_plans("rtn4-g128", 0, [0]),
    ],
)
def test_a_plan_for_no_blocks_is_refused(build):
    with pytest.raises(PlanError, match="asked for 0 blocks; a model has at least one"):
        build()


@pytest.mark.parametrize("number", [-1, 12])
def test_protecting_a_block_that_is_not_there_is_refused(number):
    with pytest.raises(PlanError, match=rf"block {number} .* valid numbers are 0 to 11"):
        Plan.uniform("rtn4-g128", 12, [number])


@pytest.mark.parametrize("mask", [-1, 4096])
def test_a_mask_beyond_the_last_block_is_refused(mask):
    with pytest.raises(PlanError, match=rf"mask {mask} .*12 blocks; masks run from 0 .* to 4095"):
        mask_plans("rtn4-g128", 12, [mask])


def test_a_scheme_nobody_knows_is_refused_wherever_it_stands():
    for build in (
        lambda: Plan(("rtn9",)),
        lambda: Plan(("fp",), embedding="rtn9"),
        lambda: Plan(("fp",), head="rtn9"),
        lambda: Plan.uniform("rtn9", 3),
        lambda: mask_plans("rtn9", 3, [0]),
    ):
        with pytest.raises(SchemeError, match="scheme 'rtn9' is not known"):
            build()


# -- variants --------------------------------------------------------------------------------------


@given(variants)
def test_a_variants_name_gives_it_back(name):
    variant = parse_variant(name)
    assert parse_variant(variant.name) == variant and variant.name == name
    assert hash(parse_variant(variant.name)) == hash(variant)


def test_a_block_counts_as_protected_only_where_every_matrix_is_whole():
    plan = Plan.parse("rtn4-g128 protect 0,1 units 1.v=rtn4-g128,2.v=fp", 4)
    assert plan.protected == (0,) and plan.mask == 1
    assert plan.blocks == ("fp", "fp/rtn4-g128@v", "rtn4-g128/fp@v", "rtn4-g128")
    assert not Plan.only_unit("rtn4-g128", 4, 1, "v").is_full_precision
    assert Plan.only_unit("rtn4-g128", 4, 1, "v").is_light


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rtn4-g128/v", "'v' names no matrix; expected SCHEME@MATRIX"),
        ("rtn4-g128/fp@v/rtn8-g128@v", "gives v twice"),
        ("rtn4-g128/fp@3.v", "'3.v' can be no matrix of a block"),
        ("rtn4-g128/fp@", "'' can be no matrix of a block"),
        ("rtn4-g128/fp@v w", "'v w' can be no matrix of a block"),
    ],
)
def test_a_malformed_variant_is_refused(name, message):
    with pytest.raises(PlanError, match=re.escape(message)):
        parse_variant(name)
