"""A model exported to compressed-tensors: bitgap beside the toolchain's own path, in one run.

    python benchmarks/export.py MODEL [--scheme rtn4-g64] [--rounds 3]

Every block's matrices get one scheme, and embedding and head stay whole. The toolchain's path is
``from_pretrained``, ``apply_quantization_config``, scales by ``calculate_qparams`` from each
group's ends, ``compress_model`` and ``save_pretrained``; it checks nothing. Of bitgap two are told:
what writes the same files, and ``export``, which counts every matrix after it, compares it with the
simulation and runs the simulation's logits, without the toolchain's loading it back.

Each runs in a process of its own with one thread, taking turns, and the better of its rounds is
told. CPU seconds count from after the imports; peak memory is that of the whole process, to be read
beside the largest block. Equal bits of codes and shapes of scales are asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors import safe_open

COMMON = """
import json, resource, sys, time
import torch
torch.set_num_threads(1)
model_path, out, scheme = sys.argv[1:4]
{imports}
start = time.process_time()
{work}
spent = time.process_time() - start
print(json.dumps([spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""
TOOLCHAIN = (
    """
import os
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import (
    QuantizationArgs, QuantizationConfig, QuantizationScheme, apply_quantization_config)
from compressed_tensors.quantization.utils import calculate_qparams
from transformers import AutoModelForCausalLM
""",
    """
bits, group = int(scheme[3]), int(scheme.partition("-g")[2])
args = QuantizationArgs(num_bits=bits, type="int", symmetric=True, strategy="group",
                        group_size=group)
config = QuantizationConfig(
    config_groups={"all": QuantizationScheme(targets=["Linear"], weights=args)},
    ignore=["lm_head"], format="pack-quantized", quantization_status="initialized")
model = AutoModelForCausalLM.from_pretrained(model_path, dtype="auto")
apply_quantization_config(model, config)
with torch.no_grad():
    for module in model.modules():
        if getattr(module, "quantization_scheme", None) is None:
            continue
        groups = module.weight.unflatten(-1, (-1, group))
        scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), args)
        module.weight_scale.copy_(scale)
        if getattr(module, "weight_zero_point", None) is not None:
            module.weight_zero_point.copy_(zero)
compressor = ModelCompressor.from_pretrained_model(model, "pack-quantized")
compressor.compress_model(model)
if hasattr(model.config, "quantization_config"):
    del model.config.quantization_config
model.save_pretrained(out)
compressor.update_config(out)
""",
)
_SOURCE = """
source = Source.open(model_path)
schemes = {name: scheme if place.block is not None else "fp"
           for name, place in source.places.items()}
"""
BITGAP = (
    """
from pathlib import Path
from bitgap.formats.compressed_tensors_writer import CompressedTensors
from bitgap.formats.source import Source
""",
    _SOURCE
    + """
Path(out).mkdir()
CompressedTensors().write(source, schemes, Path(out))
""",
)
COUNTED = (
    """
from bitgap.formats.source import Source
from bitgap.jobs.export import Check, export
from bitgap.protect.recipe import read_recipe
""",
    """
export(read_recipe(os.environ["RECIPE"]), ["compressed-tensors"], out, check=Check(load=False))
""",
)
SIDES = {"toolchain": TOOLCHAIN, "bitgap, written": BITGAP, "bitgap, counted": COUNTED}


def measure(side: str, model: str, out: Path, scheme: str, recipe: Path) -> list[float]:
    """Returns CPU seconds and peak bytes of one run; its files are left in ``out``."""
    imports, work = SIDES[side]
    code = COMMON.format(imports=f"import os\n{imports}", work=work)
    env = os.environ | {"OMP_NUM_THREADS": "1", "RECIPE": str(recipe), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, model, str(out), scheme],
        check=True, capture_output=True, text=True, env=env,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def write_uniform_recipe(model: str, scheme: str, path: Path) -> int:
    """Writes the recipe that gives every block one scheme; returns bytes of the largest block."""
    from bitgap.formats.source import Source
    from bitgap.protect.recipe import Recipe, RecipeUnit, write_recipe
    from bitgap.protect.records import Matrix, Unit
    from bitgap.protect.sizes import plain_choice

    source = Source.open(model)
    units: dict[str, RecipeUnit] = {}
    blocks: dict[int, int] = {}
    for name, place in source.places.items():
        if place.block is None:
            continue
        unit = Unit(name=place.module, kind=place.kind, block=place.block,
                    matrices=(Matrix(name=name, n_out=place.n_out, n_in=place.n_in),))  # fmt: skip
        size = plain_choice(unit, scheme).size_bytes
        units[place.module] = RecipeUnit(scheme=scheme, bytes=size, matrices=(name,))
        stored = source.stored(name)
        held = stored.numel() * stored.element_size()
        blocks[place.block] = blocks.get(place.block, 0) + held
    fixed = sum(
        source.stored(name).numel() * source.stored(name).element_size()
        for name in source.names()
        if name.removesuffix(".weight") not in units
    )
    taken = sum(unit.bytes for unit in units.values()) + fixed
    recipe = Recipe(
        model=model, fingerprint=source.loaded.info.fingerprint, budget="uniform",
        budget_bytes=taken, bytes=taken, fixed_bytes=fixed, objective="worst-quarter",
        no_harm=(), seed=0, table="0" * 64, split="0" * 64, units=units,
    )  # fmt: skip
    write_recipe(recipe, path)
    return max(blocks.values())


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of codes and scales of a folder."""
    found: dict[str, tuple[int, ...]] = {}
    for file in folder.rglob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():
                if name.endswith(("_packed", "_scale")):
                    found[name] = tuple(tensors.get_slice(name).get_shape())
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--scheme", default="rtn4-g64", help="rtn by groups that divide all rows")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    runs: dict[str, list[list[float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory(prefix="bitgap-") as place:
        recipe = Path(place) / "recipe.toml"
        largest = write_uniform_recipe(options.model, options.scheme, recipe)
        for _ in range(options.rounds):
            made: list[dict[str, tuple[int, ...]]] = []
            for side in SIDES:
                out = Path(place) / "out"
                runs[side].append(measure(side, options.model, out, options.scheme, recipe))
                made.append(shapes(out))
                shutil.rmtree(out)
            assert made[0] == made[1] == made[2], "the exports are not of the same form"
    best = {side: (min(r[0] for r in own), min(r[1] for r in own)) for side, own in runs.items()}
    theirs = best["toolchain"]
    print(f"largest block {largest / 2**20:.0f} MiB")
    for side, (spent_s, peak_bytes) in best.items():
        times = f"{spent_s / theirs[0]:5.2f} x, {peak_bytes / theirs[1]:.2f} x"
        print(f"{side:15} {spent_s:6.2f} s of CPU, peak {peak_bytes / 2**20:6.0f} MiB   {times}")


if __name__ == "__main__":
    main()
