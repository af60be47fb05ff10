"""Those who run in the speed benchmark: ours, llama.cpp, CTranslate2 and PyTorch, each in a process of its own.

`python3 -m tests.benchmarks.contestants NAME CONFIG` reads one JSON command a line, `[method, arguments…]`, and answers
with one JSON value: the seconds that the work took. `Contestant` is the other side of the pipe. A process that waits
for a command uses no processor, so that two can be timed in turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
WARM = 2  # steps before the clock starts


class Contestant:
    """A process that runs one of RUNNERS."""

    def __init__(self, name: str, python: str = sys.executable, **config: Any) -> None:
        self.name = name
        command = [python, "-m", "tests.benchmarks.contestants", name, json.dumps(config)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def do(self, method: str, *arguments: Any) -> float:
        """Seconds that the work took; SystemExit when the process ended."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([method, *arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with exit code {self._process.wait()} in {method}")
        return float(json.loads(line))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def timed(call: Callable[[], Any]) -> float:
    """Seconds of wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_memory() -> float:
    """Bytes of this process that were ever resident at once (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith("VmHWM"))


class Ours:
    """The encoder and the decoder of a converted model, through our own rooms."""

    def __init__(self, model: str, threads: int, rows: int = 1, *, encoder: bool = True, keep: float = 0.0) -> None:
        from audio_encoder.encoder import AudioEncoder
        from decoder.decoder import Decoder
        from models.manifest import load_manifest
        from models.runtime.session import SessionOptions
        from models.runtime.threads import together

        manifest, options = load_manifest(Path(model)), SessionOptions(threads=threads, keep=keep)
        start = time.perf_counter()
        self._decoder, self._encoder = together(
            lambda: Decoder(manifest, options, rows=rows), lambda: AudioEncoder(manifest, options) if encoder else None
        )
        self._opened = time.perf_counter() - start
        self._words = min(manifest.decoder_sizes.vocab_size, manifest.decoder_sizes.audio_start)
        self._random = np.random.default_rng(0)

    def opened(self) -> float:
        """Seconds from nothing to a model that can be asked."""
        return self._opened

    def encode(self, seconds: float) -> float:
        """One clip of so many seconds, from its log-mel on."""
        assert self._encoder
        frames = int(seconds * 100)
        mel = self._random.normal(0, 0.5, (self._encoder._sizes.n_mels, 3000)).astype(np.float32)
        return timed(lambda: self._encoder.encode([(mel, frames)]))

    def prefill(self, tokens: int) -> float:
        """A new sequence of so many tokens in row 0."""
        ids = self._ids(tokens)
        return timed(lambda: self._decoder.prefill(ids))

    def decode(self, rows: int, context: int, steps: int) -> float:
        """Seconds of one step of so many rows side by side, after prompts of `context` tokens."""
        for row in range(rows):
            self._decoder.prefill(self._ids(context), row=row)
        new = dict(enumerate(self._ids(rows)))
        for _ in range(WARM):
            self._decoder.advance(new)
        return timed(lambda: [self._decoder.advance(new) for _ in range(steps)]) / steps

    def extend(self, ids: int, context: int, runs: int) -> float:
        """Seconds of one run of so many ids in one row, as guesses make them, after a prompt of `context` tokens."""
        self._decoder.prefill(self._ids(context))
        for _ in range(WARM):
            self._decoder.extend({0: self._ids(ids)})
        return timed(lambda: [self._decoder.extend({0: self._ids(ids)}) for _ in range(runs)]) / runs

    def guess(self, ids: int, context: int, runs: int) -> float:
        """Seconds that each of so many guesses adds to the run of a prompt of `context` tokens, with and without in turns."""
        found = []
        for _ in range(WARM + runs):
            prompt, guesses = self._ids(context), self._ids(ids)
            alone = timed(partial(self._decoder.begin, prompt))
            found.append(timed(partial(self._decoder.begin, prompt, (), guesses)) - alone)
        return median(found[WARM:]) / ids

    def answer(self, seconds: float, words: int, steps: int) -> float:
        """A whole answer: a clip, a prompt of its tokens and so many words more, so many new tokens."""
        start = time.perf_counter()
        self.encode(seconds)
        self._decoder.prefill(self._ids(int(seconds * 25) + 2 + words))
        for new_id in self._ids(steps - 1):
            self._decoder.step(new_id)
        return time.perf_counter() - start

    def _ids(self, count: int) -> list[int]:
        return self._random.integers(0, self._words, count).tolist()  # type: ignore[no-any-return]


class LlamaCpp:
    """llama.cpp through llama-cpp-python's C interface, on a GGUF without a vocabulary."""

    def __init__(self, model: str, threads: int, rows: int = 1, context: int = 1024, vocabulary: int = 150_000) -> None:
        import ctypes

        import llama_cpp as library  # type: ignore[import-not-found]

        self._library, self._vocabulary, self._batch_size = library, vocabulary, 512
        quiet = library.llama_log_callback(lambda *_: None)
        self._quiet = quiet  # the library keeps no reference
        library.llama_log_set(quiet, ctypes.c_void_p(0))
        library.llama_backend_init()
        start = time.perf_counter()
        loaded = library.llama_model_load_from_file(model.encode(), library.llama_model_default_params())
        settings = library.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch = context * rows, self._batch_size, self._batch_size
        settings.n_seq_max, settings.n_threads, settings.n_threads_batch = rows, threads, threads
        self._context = library.llama_init_from_model(loaded, settings)
        self._opened = time.perf_counter() - start
        self._memory = library.llama_get_memory(self._context)
        self._batch = library.llama_batch_init(self._batch_size, 0, 1)
        self._random = np.random.default_rng(0)

    def opened(self) -> float:
        """Seconds from nothing to a model that can be asked."""
        return self._opened

    def prefill(self, tokens: int) -> float:
        """A new sequence of so many tokens."""
        self._library.llama_memory_clear(self._memory, False)
        return timed(lambda: self._prompt(0, tokens))

    def decode(self, rows: int, context: int, steps: int) -> float:
        """Seconds of one step of so many sequences side by side, after prompts of `context` tokens."""
        self._library.llama_memory_clear(self._memory, False)
        for row in range(rows):
            self._prompt(row, context)
        for step in range(WARM):
            self._run([(row, context + step, True) for row in range(rows)])

        def work() -> None:
            for step in range(WARM, WARM + steps):
                self._run([(row, context + step, True) for row in range(rows)])

        return timed(work) / steps

    def answer(self, tokens: int, steps: int) -> float:
        """A prompt and so many new tokens."""
        self._library.llama_memory_clear(self._memory, False)
        start = time.perf_counter()
        self._prompt(0, tokens)
        for step in range(steps - 1):
            self._run([(0, tokens + step, True)])
        return time.perf_counter() - start

    def _prompt(self, row: int, tokens: int) -> None:
        for first in range(0, tokens, self._batch_size):
            last = min(tokens, first + self._batch_size)
            self._run([(row, position, position == tokens - 1) for position in range(first, last)])

    def logits(self, ids: list[int], out: str) -> float:
        """Write the logits [ids, vocabulary] behind each id of one sequence to `out`, a .npy."""
        self._library.llama_memory_clear(self._memory, False)
        rows = []
        for position, token in enumerate(ids):
            self._run([(0, position, True)], [token])
            found = self._library.llama_get_logits_ith(self._context, -1)
            rows.append(np.ctypeslib.as_array(found, (self._vocabulary,)).copy())
        np.save(out, np.stack(rows))
        return 0.0

    def _run(self, entries: list[tuple[int, int, bool]], ids: list[int] | None = None) -> None:
        """Tokens as (sequence, position, whether its logits are wanted); their ids are random if none are given."""
        batch = self._batch
        batch.n_tokens = len(entries)
        for i, (row, position, wanted) in enumerate(entries):
            batch.token[i] = ids[i] if ids else int(self._random.integers(0, self._vocabulary))
            batch.pos[i], batch.n_seq_id[i], batch.logits[i] = position, 1, wanted
            batch.seq_id[i][0] = row
        if self._library.llama_decode(self._context, batch):
            raise SystemExit("llama_decode failed")
        self._library.llama_get_logits_ith(self._context, -1)  # waits for the result


class CTranslate2:
    """CTranslate2's Whisper encoder in int8."""

    def __init__(self, model: str, threads: int) -> None:
        import ctranslate2  # type: ignore[import-not-found]

        self._library = ctranslate2
        self._model = ctranslate2.models.Whisper(model, device="cpu", compute_type="int8", intra_threads=threads)

    def encode(self, seconds: float) -> float:
        """One clip of so many seconds, from its log-mel on."""
        mel = np.random.default_rng(0).normal(0, 0.5, (1, 80, int(seconds * 100))).astype(np.float32)
        features = self._library.StorageView.from_array(mel)
        return timed(lambda: np.array(self._model.encode(features)))


class PyTorch:
    """The same encoder in PyTorch, in float32 or bfloat16: the trainer's, at the size of `sizes`."""

    def __init__(self, sizes: dict[str, Any], threads: int, dtype: str) -> None:
        import torch

        from models.nano.train.model import AudioEncoder, Sizes

        torch.set_num_threads(threads)
        self._torch, self._type = torch, getattr(torch, dtype)
        self._model = AudioEncoder(Sizes(0, 0, **sizes)).to(self._type).eval()

    def encode(self, seconds: float) -> float:
        """One clip of so many seconds, from its log-mel on."""
        torch, columns = self._torch, int(seconds * 100)
        mel = torch.randn(1, 80, columns).to(self._type)
        with torch.inference_mode():
            return timed(lambda: self._model(mel, torch.tensor([columns // 2])))


class Memory:
    """How fast this machine reads memory: the largest of arrays that no cache holds, in some threads.

    Of numpy's passes over an array this one is the fastest (dot products reach half of it).
    """

    def __init__(self, threads: int) -> None:
        self._arrays = [np.ones(1 << 27, np.float32) for _ in range(threads)]  # 0.5 GB each

    def read(self) -> float:
        """Bytes a second, the best of three passes."""
        with ThreadPoolExecutor(len(self._arrays)) as pool:
            seconds = min(timed(lambda: list(pool.map(np.max, self._arrays))) for _ in range(3))
        return sum(array.nbytes for array in self._arrays) / seconds


RUNNERS: dict[str, Any] = {
    "ours": Ours,
    "llama.cpp": LlamaCpp,
    "CTranslate2": CTranslate2,
    "PyTorch": PyTorch,
    "memory": Memory,
}


def main() -> int:
    """Serve one contestant on standard input and output."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    runner = RUNNERS[sys.argv[1]](**json.loads(sys.argv[2]))
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        found = peak_memory() if method == "peak_memory" else getattr(runner, method)(*arguments)
        print(json.dumps(found), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
