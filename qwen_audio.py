#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "numpy>=1.26",
#   "soundfile>=0.12.1",
#   "av>=13",
#   "tiktoken>=0.7",
#   "onnxruntime>=1.20",
#   "ailia>=1.4",
#   "onnx>=1.16",
#   "huggingface_hub>=2.0",
#   "httpx2>=2.0",
#   "filelock>=3.10",
#   "tqdm>=4.66",
#   "shtab>=1.7",
#   "jinja2>=3.1",
# ]
# ///
"""Ask Qwen-Audio about sounds: `python3 qwen_audio.py --input x.flac --prompt "what does the person say?"`.

    sound -> log-mel -> embeddings -> prompt ids -> new ids -> text

`listen`, `prompt_ids` and `answer` are its steps; the command line (cli/) is made of them, too. From Python:

    import qwen_audio
    model = qwen_audio.load()  # the embedded model, or a directory
    print(model.answer("what does the person say?", "x.flac"))
"""

from __future__ import annotations

if __name__ == "__main__":  # before all else
    import _signal  # type: ignore[import-not-found]  # what `signal` is made of, and is there at once
    import os
    import sys

    if _signal.getsignal(_signal.SIGINT) == _signal.default_int_handler:  # it would show a traceback
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    if sys.flags.safe_path:  # Python was told not to look beside this file, where the rooms are
        sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120 - pathlib takes long to import
    from cli.signals import take_over

    take_over()

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from errors import PromptError, QwenAudioError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from audio_encoder.encoder import AudioEncoder
    from decoder.decoder import Decoder
    from decoder.generate import Event, Request
    from models.manifest import Manifest
    from models.runtime.session import SessionOptions
    from tokenizer.chat import Turn
    from tokenizer.tokenizer import Tokenizer

    Float32 = npt.NDArray[np.float32]
    Sound = str | Path | Float32

__all__ = ["Model", "QwenAudioError", "answer", "answer_all", "choose", "listen", "load", "prompt_ids"]

SYSTEM = "You are a helpful assistant."
MAX_NEW_TOKENS = 512
LONGEST_CHOICE = 64  # tokens of the sentence that a choice stands in


@dataclass(frozen=True)
class Model:
    """An open model. `chat`: it is asked in a ChatML conversation, else with the bare prompt of a base model."""

    manifest: Manifest
    encoder: AudioEncoder
    decoder: Decoder
    tokenizer: Tokenizer
    backend: str
    chat: bool

    @property
    def end_id(self) -> int:
        """The id that ends an answer as the model was trained to end it."""
        return self.tokenizer.im_end if self.chat else self.tokenizer.endoftext

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an answer."""
        return self.tokenizer.stop_ids if self.chat else frozenset({self.tokenizer.endoftext})

    def answer(self, prompt: str, *sounds: Sound, max_new_tokens: int = MAX_NEW_TOKENS) -> str:
        """Answer a prompt about sounds: files, or waveforms float32 [samples] at 16 kHz. See `stream`."""
        return "".join(self.stream(prompt, *sounds, max_new_tokens=max_new_tokens))

    def stream(self, prompt: str, *sounds: Sound, max_new_tokens: int = MAX_NEW_TOKENS) -> Iterator[str]:
        """Yield the answer while it is decoded; it is the same on every run.

        A recording over 30 s, which is what the model hears at once, gets an answer for each window of it, a line each.
        Other threads wait until this is read to its end or closed. Raises QwenAudioError for what is no sound, for one
        over 30 s beside others, for an empty or too long prompt, and in the middle of another answer of this thread.
        """
        from audio_encoder.waveform import as_waveform
        from audio_encoder.windows import hearable

        if max_new_tokens < 1:
            raise PromptError(f"max_new_tokens is {max_new_tokens}", "give at least 1")
        for number, part in enumerate(hearable([as_waveform(sound) for sound in sounds])):
            clips = listen(part, self)
            ids = prompt_ids(prompt, clips, self)
            yield "\n" * (number > 0)
            yield from answer(ids, clips, self, max_new_tokens=max_new_tokens)


def load(
    directory: str | Path | None = None, options: SessionOptions | None = None, *, rows: int = 1, raw: bool = False
) -> Model:
    """Open a model directory, by default the embedded model; `rows` answers can be decoded side by side.

    `raw` gives a chat model the bare prompt of a base model. Raises ModelError for a directory that is not a complete
    model, and BackendError if no backend can run it.
    """
    from audio_encoder.encoder import AudioEncoder
    from decoder.decoder import Decoder
    from models.manifest import check_vocabulary, load_manifest
    from models.nano.embedded import embedded_model
    from models.runtime.session import SessionOptions, choose_backend
    from models.runtime.threads import together
    from tokenizer.tokenizer import Tokenizer

    manifest = load_manifest(embedded_model() if directory is None else Path(directory))
    options = options or SessionOptions()
    if options.backend == "auto":
        options = replace(options, backend=choose_backend(manifest, options)[0])
    tokenizer = Tokenizer(manifest.path(manifest.vocabulary or ""))
    check_vocabulary(manifest, tokenizer.vocab_size, (tokenizer.audio_start, tokenizer.audio_end))
    open_decoder = partial(Decoder, manifest, options, rows=rows)
    encoder, decoder = together(partial(AudioEncoder, manifest, options), open_decoder)
    return Model(manifest, encoder, decoder, tokenizer, options.backend, manifest.chat_format == "chatml" and not raw)


def listen(sounds: Iterable[Sound], model: Model) -> list[Float32]:
    """The sounds of one prompt -> their embeddings, float32 [audio_tokens + 2, d_model] each; at most 30 s of each."""
    from audio_encoder.log_mel import log_mel_spectrogram
    from audio_encoder.waveform import as_waveform

    waveforms = [as_waveform(sound) for sound in sounds]  # [samples] each
    mels = [log_mel_spectrogram(waveform) for waveform in waveforms]  # ([n_mels, 3000], frames of sound) each
    return model.encoder.encode(mels)


def prompt_ids(
    prompt: str, clips: Sequence[Float32], model: Model, *, history: Sequence[Turn] = (), system: str = SYSTEM
) -> list[int]:
    """A prompt about clips -> ids [prompt_tokens], with a run of ids in the place of each clip.

    `history` are the turns before in a dialogue; their clips come first in `clips`. Raises PromptError.
    """
    from tokenizer.chat import Turn, encode_base, encode_chat

    if not prompt.strip():
        raise PromptError("the prompt is empty", "say what you want to know about the sound")
    own = clips[sum(len(turn.audio_spans) for turn in history) :]
    spans = tuple(len(clip) for clip in own)
    if not model.chat:
        return encode_base(model.tokenizer, prompt, audio_spans=spans)
    turns = [*history, Turn(prompt, audio_spans=spans)]
    return encode_chat(model.tokenizer, turns, system=system, max_window_size=model.manifest.max_window_size)


def answer(
    ids: Sequence[int], clips: Sequence[Float32], model: Model, *, max_new_tokens: int = MAX_NEW_TOKENS
) -> Iterator[str]:
    """Prompt ids and clips -> the answer, in whole characters, as it is decoded greedily. Raises PromptError."""
    from decoder.generate import Request

    request = Request(None, ids, clips, model.stop_ids, max_new_tokens)
    for event, text in answer_all(iter([request]), model):
        if event.error:
            raise event.error
        yield text


def answer_all(requests: Iterator[Request], model: Model) -> Iterator[tuple[Event, str]]:
    """Requests -> the events of each, as many side by side as the decoder has rows, with the text that is certain now.

    The answers are those that each request gets alone. All decoding goes through here.
    """
    from decoder.generate import generate_many
    from tokenizer.stream import TextStream

    streams: dict[Hashable, TextStream] = {}
    with model.decoder.alone():
        for event in generate_many(model.decoder, requests):
            stream = streams.setdefault(event.key, TextStream(model.tokenizer))
            text = "" if event.token_id is None else stream.push(event.token_id)
            if event.is_last:
                text += streams.pop(event.key).end()
            yield event, text


def choose(ids: Sequence[int], clips: Sequence[Float32], model: Model, choices: Sequence[str]) -> dict[str, float]:
    """How likely each of `choices` is as the answer: natural logarithms of probabilities that sum to one.

    They are judged in the words of the model's own answer, with each choice in its place. Raises PromptError.
    """
    from decoder import choices as decoder_choices
    from tokenizer.framing import framed

    said = "".join(answer(ids, clips, model, max_new_tokens=LONGEST_CHOICE))
    options = [model.tokenizer.encode(one, special="audio") for one in framed(said, choices)]
    with model.decoder.alone():
        found = decoder_choices.choose(model.decoder, ids, clips, options, end_id=model.end_id)
    return dict(zip(choices, decoder_choices.log_softmax(found).tolist(), strict=True))


if __name__ == "__main__":
    from cli.main import start

    start()
