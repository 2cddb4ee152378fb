from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hand_written as written
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bitgap.errors import ModelError, NoSuchModel
from bitgap.formats.contents import contents_of
from bitgap.formats.open import open_checkpoint


@pytest.mark.parametrize("layout", written.WRITERS)
def test_a_layout_is_known_by_its_tensors_and_decoded_to_the_bit(
    layout: str, tmp_path: Path
) -> None:
    made = written.WRITERS[layout]()
    checkpoint = open_checkpoint(made.save(tmp_path))
    (unit,) = checkpoint.units
    assert (checkpoint.toolchain, unit.name, unit.stored) == (
        made.toolchain,
        made.name,
        made.stored,
    )
    assert unit.shape == made.weight.shape
    np.testing.assert_array_equal(unit.weight().numpy(), made.weight)
    file = tmp_path / "model.safetensors"
    n_bytes = sum(t.nbytes for n, t in load_file(file).items() if n != "model.norm.weight")
    assert unit.n_bytes == n_bytes
    assert [whole.name for whole in checkpoint.whole] == ["model.norm.weight"]


@pytest.mark.parametrize("layout", written.WRITERS)
def test_every_tensor_of_a_layout_is_needed_or_another_layout_is_named(
    layout: str, tmp_path: Path
) -> None:
    """A matrix that lost a part is refused by name, and never read as something else."""
    made = written.WRITERS[layout]()
    spare = ("input_scale", "weight_format", "g_idx", "pre_quant_scale")
    for lost in made.tensors:
        # Without zero points a matrix is a symmetric one, which is a layout of its own.
        if lost.endswith((*spare, "qzeros", "zero_point")):
            continue
        rest = written.Written({k: v for k, v in made.tensors.items() if k != lost}, made.weight)
        rest.quantization = made.quantization
        with pytest.raises(ModelError):
            opened = open_checkpoint(rest.save(tmp_path / lost))
            pytest.fail(f"without {lost}: {[u.stored for u in opened.units]}")


def test_nothing_is_read_before_it_is_asked_for_and_nothing_kept(tmp_path: Path) -> None:
    made = written.packed_integers()
    (unit,) = open_checkpoint(made.save(tmp_path)).units
    first, second = unit.weight(), unit.weight()
    first.zero_()
    np.testing.assert_array_equal(second.numpy(), made.weight)
    np.testing.assert_array_equal(unit.weight().numpy(), made.weight)


def test_a_name_says_nothing(tmp_path: Path) -> None:
    made = written.awq()
    made.quantization = {"quant_method": "gptq", "bits": 8}
    folder = made.save(tmp_path / "model-GPTQ-8bit")
    checkpoint = open_checkpoint(folder)
    assert checkpoint.toolchain == "awq"
    assert checkpoint.claim == "gptq, 8 bits"
    np.testing.assert_array_equal(checkpoint.units[0].weight().numpy(), made.weight)


@pytest.mark.parametrize("key", ["quantization_config", "compression_config", "quantization"])
def test_configs_of_old_and_new_keys_are_found(key: str, tmp_path: Path) -> None:
    made = written.packed_integers(n_in=80)  # needs the group size that only the config has
    told, made.quantization = made.quantization, {}
    checkpoint = open_checkpoint(made.save(tmp_path, **{key: told}))
    np.testing.assert_array_equal(checkpoint.units[0].weight().numpy(), made.weight)


def test_a_side_file_tells_what_the_config_does_not(tmp_path: Path) -> None:
    made = written.int4_pairs()
    made.quantization = {}
    folder = made.save(tmp_path)
    told = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "W4A16_AWQ"}}
    (folder / "hf_quant_config.json").write_text(json.dumps(told))
    assert open_checkpoint(folder).claim == "W4A16_AWQ"


def test_parts_named_by_an_index_are_read_together(tmp_path: Path) -> None:
    made = written.gptq()
    folder = made.save(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {n: f"part-{i % 2}.safetensors" for i, n in enumerate(names)}
    for part in set(weight_map.values()):
        save_file({n: tensors[n] for n in names if weight_map[n] == part}, folder / part)
    save_file({"stray": torch.ones(2)}, folder / "consolidated.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    checkpoint = open_checkpoint(folder)
    np.testing.assert_array_equal(checkpoint.units[0].weight().numpy(), made.weight)
    for name in ("../part-0.safetensors", "gone.safetensors"):
        index.write_text(json.dumps({"weight_map": {names[0]: name}}))
        with pytest.raises(ModelError, match="its index names"):
            open_checkpoint(folder)


def _folder(path: Path, tensors: dict[str, Any], config: dict[str, Any] | None = None) -> Path:
    path.mkdir()
    save_file(tensors, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config or {}))
    return path


def test_what_is_not_quantized_says_so(tmp_path: Path) -> None:
    whole = {"model.layers.0.mlp.up_proj.weight": torch.ones(4, 4)}
    with pytest.raises(ModelError, match="holds no quantized tensor: all 1 are"):
        open_checkpoint(_folder(tmp_path / "a", whole))
    told = {"quantization_config": {"quant_method": "compressed-tensors"}}
    with pytest.raises(ModelError, match="though its config says 'compressed-tensors'"):
        open_checkpoint(_folder(tmp_path / "b", whole, told))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a.weight", torch.ones(4, 4, dtype=torch.int8)),
        ("a.weight", torch.ones(4, 4).to(torch.float8_e4m3fn)),
        ("a.codebook", torch.ones(4, 4, dtype=torch.int16)),
        ("a.weight_scale", torch.ones(4)),
        ("a.trellis", torch.ones(4, 4, dtype=torch.int32)),
    ],
)
def test_what_belongs_to_no_layout_is_refused_by_its_name(
    name: str, value: torch.Tensor, tmp_path: Path
) -> None:
    tensors = written.packed_integers().tensors | {name: value}
    with pytest.raises(ModelError, match=f"{name} is .* belongs to no layout"):
        open_checkpoint(_folder(tmp_path / "x", {k: v.contiguous() for k, v in tensors.items()}))


def test_pickles_are_refused(tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "qmodel.pt"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_bytes(b"\x80\x04")
        with pytest.raises(ModelError, match="pickles can run code"):
            open_checkpoint(folder)
        with pytest.raises(ModelError, match="pickles are not read"):
            open_checkpoint(folder / name)


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoSuchModel, match="no such file or folder"):
        open_checkpoint(tmp_path / "gone")
    with pytest.raises(ModelError, match=r"has no \.safetensors file"):
        open_checkpoint(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="a damaged one"):
        open_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"g_idx": torch.full((96,), 9, dtype=torch.int32)}, "groups beyond"),
        ({"g_idx": torch.zeros(80, dtype=torch.int32)}, "no number of bits fits"),
        ({"qzeros": torch.zeros(3, 5, dtype=torch.int32)}, "no number of bits fits"),
        ({"scales": torch.ones(3, 31, dtype=torch.float16)}, "scales are 3 x 31"),
        ({"scales": torch.ones(3, 32, dtype=torch.int32)}, "was expected"),
    ],
)
def test_gptq_parts_that_do_not_fit_each_other(
    change: dict[str, torch.Tensor], message: str, tmp_path: Path
) -> None:
    made = written.gptq()
    made.tensors |= {f"{written.NAME}.{k}": v for k, v in change.items()}
    with pytest.raises(ModelError, match=message):
        open_checkpoint(made.save(tmp_path))


def test_versions_that_are_not_understood(tmp_path: Path) -> None:
    made = written.gptq()
    made.quantization["checkpoint_format"] = "marlin"
    with pytest.raises(ModelError, match="checkpoint_format 'marlin'"):
        open_checkpoint(made.save(tmp_path / "a")).units[0].weight()
    made = written.int8_rows()
    made.tensors[f"{written.NAME}.weight_format"] = torch.tensor(2, dtype=torch.uint8)
    with pytest.raises(ModelError, match="tiled for a GPU"):
        open_checkpoint(made.save(tmp_path / "b"))
    made = written.mlx()
    made.quantization["mode"] = "lattice"
    with pytest.raises(ModelError, match="mode 'lattice'"):
        open_checkpoint(made.save(tmp_path / "c"))


def test_a_weight_that_is_not_finite_is_told_by_its_name(tmp_path: Path) -> None:
    made = written.packed_integers()
    made.tensors[f"{written.NAME}.weight_scale"][0, 0] = torch.nan
    unit = open_checkpoint(made.save(tmp_path)).units[0]
    with pytest.raises(ModelError, match=f"{written.NAME}.weight holds NaN"):
        unit.weight()


def test_contents_count_what_is_there(tmp_path: Path) -> None:
    made = written.packed_integers(4, n_in=96, n_out=8)
    contents = contents_of(open_checkpoint(made.save(tmp_path)))
    held, norm = contents.tensors
    codes, scales, shape = 8 * 96 // 2, 8 * 3 * 2, 2 * 8
    assert (held.code_bits, held.n_bytes) == (4, codes + scales + shape)
    assert held.bits == 8 * held.n_bytes / (8 * 96)
    assert (held.block, held.quantized, norm.block, norm.quantized) == (0, True, None, False)
    assert contents.block_bits == held.bits
    assert contents.n_bytes == held.n_bytes + norm.n_bytes == held.n_bytes + 8
    assert held.share + norm.share == pytest.approx(1)
    assert contents.bits == 8 * contents.n_bytes / (8 * 96 + 4)
