"""Runs a GGUF file with llama.cpp; run by itself, not imported.

One sentence is one batch in an empty context. Buffers that repack weights for one processor are
left out: with them llama.cpp was seen to crash on some processors, and they change no weight. Keys
and values are cached in half precision, as llama.cpp does where nobody says otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

ERROR = 4
"""ggml's level of log lines that say what went wrong."""


def why(errors: list[str]) -> str:
    """Returns what llama.cpp said went wrong, the first line, which is nearest to the cause."""
    return f" ({errors[0]})" if errors else ""


def load(request: dict[str, Any]) -> Any:
    """Returns what runs the file."""
    api = import_module("llama_cpp")
    errors: list[str] = []

    @api.llama_log_callback
    def heard(level: int, text: bytes, _: Any) -> None:
        if level == ERROR:
            errors.append(text.decode(errors="replace").strip())

    api.llama_log_set(heard, None)
    api.llama_backend_init()
    how = api.llama_model_default_params()
    how.n_gpu_layers = 0
    if hasattr(how, "use_extra_bufts"):
        how.use_extra_bufts = False
    model = api.llama_model_load_from_file(str(request["file"]).encode(), how)
    if not model:
        raise SystemExit(f"llama.cpp does not load the file{why(errors)}")
    n_rows = int(api.llama_vocab_n_tokens(api.llama_model_get_vocab(model)))
    longest = max(len(ids) for _, ids in request["sentences"])
    room = api.llama_context_default_params()
    room.n_ctx = room.n_batch = room.n_ubatch = -(-longest // 32) * 32
    room.n_seq_max = 1
    room.n_threads = room.n_threads_batch = int(request["threads"])
    context = api.llama_init_from_model(model, room)
    if not context:
        raise SystemExit(f"llama.cpp makes no context for {longest} tokens{why(errors)}")
    batch = api.llama_batch_init(longest, 0, 1)

    def clear() -> None:
        if hasattr(api, "llama_memory_clear"):
            api.llama_memory_clear(api.llama_get_memory(context), True)
        else:  # before llama-cpp-python 0.3.10
            api.llama_kv_cache_clear(context)

    def logits(ids: Sequence[int], heard: Any = heard) -> Any:  # called back while it is held
        clear()
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, i, 1
            batch.seq_id[i][0], batch.logits[i] = 0, 1
        if code := api.llama_decode(context, batch):
            raise SystemExit(f"llama.cpp cannot run a sentence of {len(ids)} tokens (code {code})")
        rows = np.ctypeslib.as_array(api.llama_get_logits(context), (len(ids), n_rows))
        return rows.copy()

    return logits


if __name__ == "__main__":
    import_module("answering").answer(("llama-cpp-python", "numpy"), load)
