"""Which model directory to open, and opening it on the first backend that can."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from audio_encoder.encoder import AudioEncoder
from cli.options import ROOT, SYSTEM, Options
from cli.output.streams import say
from cli.run.prefetch import beside
from decoder.decoder import Decoder
from errors import BackendError, ModelError
from models.manifest import FILE_NAME, Manifest, load_manifest, verify_files
from models.nano.embedded import embedded_model
from models.runtime.session import SessionOptions, choose_backend, list_environments
from tokenizer.tokenizer import Tokenizer

VARIABLE = "QWEN_AUDIO_MODEL"
EMBEDDED = "nano"
ABOUT_NANO = (
    "7 million parameters, trained on synthetic speech and sounds only, and not made for real recordings "
    "(models/nano/README.md); for Qwen-Audio itself see `python3 -m models.download --help`"
)


@dataclass(frozen=True)
class Model:
    """An open model: its manifest, its three parts, and the name of the backend that runs it.

    `chat` says that it is asked in ChatML conversations, not with a base model's tags.
    """

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


def open_model(options: Options) -> Model:
    """Find and open a model; raises ModelError for a missing or damaged one, BackendError if nothing can run it."""
    manifest = load_manifest(find_model(options))
    if manifest.vocabulary is None:
        raise ModelError(
            f"{manifest.directory}: converted without a vocabulary",
            fix="put qwen.tiktoken into the checkpoint and convert it again",
        )
    wanted = SessionOptions(options.backend, options.device, options.threads, options.env_id, options.memory_mode)
    backend, reasons = choose_backend(manifest, wanted)
    if options.keep is not None:
        _prepare_keeping(options)
    session = replace(wanted, backend=backend, keep=60 * (options.keep or 0))
    model = _open_parts(manifest, session, rows=options.batch, raw=options.raw, verify=options.verify)
    if reasons:
        say(f"running on {backend}, since {'; '.join(reasons)}", quiet=options.quiet)
    if not model.chat and options.system != SYSTEM:
        say("--system: ignored, a prompt of the base form has no system prompt", quiet=options.quiet)
    return model


def _prepare_keeping(options: Options) -> None:
    """With --keep 0 nothing is kept any longer; otherwise say why this run may have to wait."""
    from models.server.client import ask_keeper, end_kept

    if not options.keep:
        end_kept()
    elif ask_keeper("state").get("left", 0) is None:
        say("--keep: the model is in use by another run, waiting for it", quiet=options.quiet)


def _open_parts(manifest: Manifest, session: SessionOptions, *, rows: int, raw: bool, verify: bool) -> Model:
    try:
        if verify:
            verify_files(manifest)
        tokenizer = Tokenizer(manifest.path(manifest.vocabulary or ""))
        _check_fit(manifest, tokenizer)
        # A library opens a graph with one thread, and does not hear Ctrl-C meanwhile: we do.
        encoder = beside(lambda: AudioEncoder(manifest, session))
        decoder = beside(lambda: Decoder(manifest, session, rows=rows))
        chat = manifest.chat_format == "chatml" and not raw
        return Model(manifest, encoder(), decoder(), tokenizer, session.backend, chat)
    except ModelError as error:
        raise ModelError(str(error)) from None
    except MemoryError:
        gigabytes = sum(record.size for record in manifest.files.values()) / 1e9
        raise BackendError(
            f"{manifest.directory}: not enough memory for {gigabytes:.1f} GB",
            fix="close other programs, or convert the model with a smaller --precision",
        ) from None
    except (OSError, ValueError, EOFError) as error:  # an array file of the right size with other bytes in it
        reason = getattr(error, "strerror", None) or "an array file that is none"
        raise ModelError(
            f"{manifest.directory}: damaged ({reason})",
            fix="--verify says which file, then convert or download it again",
        ) from None


def _check_fit(manifest: Manifest, tokenizer: Tokenizer) -> None:
    """The three parts must be of one model: else every prompt would be refused as if it were at fault."""
    sizes = manifest.decoder_sizes
    if (tokenizer.audio_start, tokenizer.audio_end) != (sizes.audio_start, sizes.audio_end):
        raise ModelError(
            f"{manifest.directory}: its vocabulary has <audio> as {tokenizer.audio_start}, its decoder as "
            f"{sizes.audio_start}",
            fix="convert the checkpoint again with its own qwen.tiktoken",
        )
    if tokenizer.vocab_size > sizes.vocab_size or manifest.encoder_sizes.d_model != sizes.d_model:
        raise ModelError(
            f"{manifest.directory}: {tokenizer.vocab_size} tokens and an encoder of width "
            f"{manifest.encoder_sizes.d_model} do not fit a decoder of {sizes.vocab_size} and "
            f"{sizes.d_model}",
            fix="convert or download this model again",
        )


def find_model(options: Options) -> Path:
    """The directory named on the command line, else in $QWEN_AUDIO_MODEL, else the only model under models/, else nano.

    Raises ModelError where there are several to choose from.
    """
    flavour = "plain" if options.backend == "ailia" else "fused"
    named = str(options.model or os.environ.get(VARIABLE) or "")
    if named == EMBEDDED and not Path(named).exists():
        return embedded_model(flavour=flavour)
    if named:
        return Path(named)
    found = sorted(path.parent for path in (ROOT / "models").glob(f"*/{FILE_NAME}"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(str(path.relative_to(ROOT)) for path in found)
        raise ModelError(f"several models are installed, choose one with --model: {names}")
    say(f"no model is named or installed, so this is nano: {ABOUT_NANO}", quiet=options.quiet)
    return embedded_model(flavour=flavour)


def say_environments() -> None:
    """List ailia's environments on standard error, numbered as --env_id takes them, or say why there are none."""
    try:
        for line in list_environments():
            say(line)
    except BackendError as error:
        say(f"--env_list: {error}")
