from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import fast_step
import pytest
import torch
from fast_step import TrainingStep, choose_arithmetic, linear_cross_entropy, make_optimiser
from model_families import FAMILIES, build_model
from recipe_samples import tiny
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

# Sums of a few thousand float32 products in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def batch(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    recipe = tiny()
    return torch.randint(recipe.vocabulary, (recipe.batch, recipe.context + 1), generator=generator)


def plain_gradients(
    family: str, ids: Tensor, autocast: bool = False
) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients as one writes them first: all logits of a model left as it came."""
    model = build_model(tiny(family=family), 0)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = model(input_ids=ids[:, :-1]).logits
        loss = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    return float(loss.detach()), {name: p.grad for name, p in model.named_parameters()}


def fast_gradients(family: str, ids: Tensor, arithmetic: str) -> tuple[float, dict[str, Tensor]]:
    step = TrainingStep(build_model(tiny(family=family), 0), 1e-3, arithmetic, "cpu")
    loss = step._loss_and_gradients(ids)
    return float(loss), {name: p.grad for name, p in step.model.named_parameters()}


@pytest.mark.parametrize("family", FAMILIES)
def test_in_float32_the_fast_step_has_the_loss_and_gradients_of_a_plain_one(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seven tokens a chunk, so that the last chunk is a short one.
    monkeypatch.setitem(fast_step._CHUNK_BYTES, "cpu", 7 * 4 * tiny().vocabulary)
    ids = batch()
    loss, gradients = fast_gradients(family, ids, "float32")
    plain_loss, plain = plain_gradients(family, ids)
    assert loss == pytest.approx(plain_loss, rel=1e-6)
    assert gradients.keys() == plain.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, plain[name], **CLOSE, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_in_bf16_it_is_as_near_to_them_as_plain_autocast(family: str) -> None:
    def distance(gradients: dict[str, Tensor]) -> float:
        differences = torch.cat([(g - exact[n]).flatten() for n, g in gradients.items()])
        return float(differences.norm() / torch.cat([g.flatten() for g in exact.values()]).norm())

    ids = batch()
    loss, gradients = fast_gradients(family, ids, "bf16")
    exact_loss, exact = plain_gradients(family, ids)
    _, rounded = plain_gradients(family, ids, autocast=True)
    # One rounding is 2^-9 at most, and the mean over 64 tokens averages theirs.
    assert loss == pytest.approx(exact_loss, rel=2**-11)
    # The same roundings in another order: over seeds their lengths agree within a tenth.
    assert 0 < distance(gradients) < 1.3 * distance(rounded)


def test_a_step_is_clipped_adamw_with_decay_where_it_belongs() -> None:
    ids, rate = batch(), 3e-2
    step = TrainingStep(build_model(tiny(family="llama"), 0), 1e-3, "float32", "cpu")
    # A head of large weights passes large gradients on.
    generator = torch.Generator().manual_seed(4)
    nn.init.normal_(step.model.lm_head.weight, std=5.0, generator=generator)
    before = {name: p.detach().clone() for name, p in step.model.named_parameters()}
    step._loss_and_gradients(ids)
    gradients = {name: p.grad.clone() for name, p in step.model.named_parameters()}
    norm = float(torch.stack([g.norm() for g in gradients.values()]).norm())
    assert norm > 1, "it must be clipped"
    step.optimiser.zero_grad()
    step(ids, rate)
    for name, parameter in step.model.named_parameters():
        gradient = gradients[name] / norm
        moment = step.optimiser.state[parameter]["exp_avg"]
        torch.testing.assert_close(moment, 0.1 * gradient, rtol=1e-4, atol=1e-9, msg=name)
        # The first step of Adam: both moments are unbiased to the gradient and its square.
        moved = before[name] * (1 - rate * 0.1 * ("proj" in name or name == "lm_head.weight"))
        moved -= rate * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(parameter.detach(), moved, rtol=1e-3, atol=1e-5, msg=name)


def test_it_learns_a_batch_by_heart() -> None:
    step = TrainingStep(build_model(tiny(), 0), 1e-2, "float32", "cpu")
    losses = [float(step(batch(), 1e-2)) for _ in range(60)]
    assert losses[-1] < 0.5 < 5 < losses[0]


@pytest.mark.parametrize(("family", "tied"), [("gpt2", True), ("gpt_neox", False)])
def test_only_matrices_of_blocks_and_an_untied_head_decay(family: str, tied: bool) -> None:
    model = build_model(tiny(family=family), 0)
    names = {id(p): name for name, p in model.named_parameters()}
    decaying, kept = (
        {names[id(p)] for p in group["params"]}
        for group in make_optimiser(model, 1e-3).param_groups
    )
    assert decaying | kept == set(names.values())
    inside = {n for n in decaying if ".h." in n or ".layers." in n}
    # Queries, keys and values in one matrix, what leaves attention, and two of the MLP.
    assert len(inside) == tiny().blocks * 4
    assert decaying - inside == (set() if tied else {"lm_head.weight"})
    for name in kept:
        matrix = model.get_parameter(name).ndim == 2
        assert not matrix or name.split(".")[-2] in ("wte", "wpe", "embed_in")


@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_linear_cross_entropy_is_that_of_the_logits(scale: float) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden = (scale * torch.randn(37, 8, generator=generator)).requires_grad_()
    weight = torch.randn(50, 8, generator=generator).requires_grad_()
    targets = torch.randint(50, (37,), generator=generator)
    expected = cross_entropy(hidden @ weight.T, targets, reduction="none")
    expected.clamp(max=87.3).mean().backward()
    gradients = [hidden.grad, weight.grad]
    plain = [g.clone() for g in gradients if g is not None]
    hidden.grad = weight.grad = None
    loss = linear_cross_entropy(hidden, weight, targets)
    (3 * loss).backward()
    largest = float(expected.detach().max())
    assert (largest > 200) == (scale == 60), "the second case must underflow, the first must not"
    assert float(loss.detach()) == pytest.approx(
        float(expected.detach().clamp(max=87.33655).mean()), rel=1e-5
    )
    if scale == 1:
        torch.testing.assert_close(hidden.grad, 3 * plain[0], **CLOSE)
        torch.testing.assert_close(weight.grad, 3 * plain[1], **CLOSE)
    else:
        # Past the cap the value stays and the gradient does not: it is still that of the logits.
        assert hidden.grad is not None and float(hidden.grad.norm()) > 1


@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize("length", [1, 9, 600])
def test_plain_attention_is_causal_attention(scaling: float | None, length: int) -> None:
    generator = torch.Generator().manual_seed(2)
    shape = (2, 3, length, 8)
    inputs = [torch.randn(shape, generator=generator, requires_grad=True) for _ in range(3)]
    weights = torch.randn(shape, generator=generator).transpose(1, 2)

    def gradients(mixed: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((mixed * weights).sum(), inputs)

    module = SimpleNamespace(is_causal=True)
    ours, _ = fast_step._plain_attention(module, *inputs, None, scaling=scaling)  # type: ignore[arg-type]
    theirs = scaled_dot_product_attention(*inputs, is_causal=True, scale=scaling).transpose(1, 2)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for mine, other in zip(gradients(ours), gradients(theirs), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("compiling", [True, False])
def test_both_forms_of_gelu_are_gelu(compiling: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    expected = gelu(x, approximate="tanh")
    # The kernel's constant is rounded to double; ours has 17 digits.
    torch.testing.assert_close(fast_step._TanhGelu()(x), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_without_attention_of_their_own_attend_by_the_formula(family: str) -> None:
    step = TrainingStep(build_model(tiny(family=family), 0), 1e-3, "float32", "cpu")
    found = step.model.config._attn_implementation
    # Those three have code of their own for it, which takes no other.
    assert (found == "bitgap_plain") == (family not in {"bloom", "falcon", "mpt"})


@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
def test_blocks_are_compiled_once_for_all_and_compute_the_same(family: str) -> None:
    torch._dynamo.reset()
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    recipe, ids = tiny(family=family, blocks=3), batch()
    plain, compiled = (TrainingStep(build_model(recipe, 0), 1e-3, "float32", "cpu") for _ in "ab")
    compiled.compile(torch.zeros_like(ids), backend)
    losses = [(float(plain(ids, 1e-3)), float(compiled(ids, 1e-3))) for _ in range(3)]
    assert len(graphs) == 1
    for ours, theirs in losses:
        assert ours == pytest.approx(theirs, rel=1e-5)
    torch._dynamo.reset()


def test_where_the_compiler_fails_the_blocks_go_on_as_they_were() -> None:
    torch._dynamo.reset()

    def backend(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler here")

    ids = batch()
    plain, step = (TrainingStep(build_model(tiny(), 0), 1e-3, "float32", "cpu") for _ in "ab")
    with pytest.raises(Exception, match="no compiler here"):
        step.compile(torch.zeros_like(ids), backend)
    assert all(p.grad is None for p in step.model.parameters())
    assert [float(step(ids, 1e-3)) for _ in range(2)] == [float(plain(ids, 1e-3)) for _ in range(2)]
    torch._dynamo.reset()


def test_arithmetic_is_what_was_asked_for_or_what_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast, expected in ((True, "bf16"), (False, "float32")):
        monkeypatch.setattr(fast_step, "fast_products_round", lambda device, f=fast: f)
        assert choose_arithmetic("auto", "cpu") == expected
        assert choose_arithmetic("bf16", "cpu") == "bf16"
        assert choose_arithmetic("float32", "cpu") == "float32"
