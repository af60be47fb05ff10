"""Which model directory to open, and opening it on the first backend that can."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from cli.options import ROOT, SYSTEM, Options
from cli.output.streams import say
from cli.signals import clean_up_first, end_at_once
from errors import BackendError, ModelError, command
from models.manifest import FILE_NAME, Manifest, load_manifest, verify_files
from models.nano.embedded import embedded_model
from models.runtime.ailia import list_environments
from models.runtime.session import SessionOptions, choose_backend
from qwen_audio import Model, load

VARIABLE = "QWEN_AUDIO_MODEL"
EMBEDDED = "nano"
ABOUT_NANO = "a small model that comes with the program, see models/nano/README.md"
GET_THE_REAL_ONE = "python3 -m models.download --help"


@dataclass(frozen=True)
class Described:
    """What is known of a model before it is open; `reasons` say why it is not on the first backend."""

    manifest: Manifest
    backend: str
    chat: bool
    reasons: tuple[str, ...]

    def say_notes(self, options: Options) -> None:
        """What the user should know of it."""
        if self.reasons:
            say(f"running on {self.backend}, since {'; '.join(self.reasons)}", quiet=options.quiet)
        if not self.chat and options.system != SYSTEM:
            say("--system: ignored, a prompt of the base form has no system prompt", quiet=options.quiet)


def open_model(options: Options) -> Model:
    """Find and open a model; raises ModelError for a missing or damaged one, BackendError if nothing can run it."""
    found = describe_model(options)
    if options.keep is not None:
        _prepare_keeping(options)
    if options.verify:
        verify_files(found.manifest)
    wanted = _session(options)
    session = replace(wanted, backend=found.backend, keep=60 * (options.keep or 0), wait=options.timeout)
    model = _load(found.manifest, session, options)
    found.say_notes(options)
    return model


def describe_model(options: Options) -> Described:
    """Find a model and a backend for it, and open nothing; raises as `open_model` does."""
    clean_up_first()  # a first run may write nano's model directory
    manifest = load_manifest(find_model(options))
    end_at_once()
    if manifest.vocabulary is None:
        fix = "put qwen.tiktoken into the checkpoint and convert it again"
        raise ModelError(f"{manifest.directory}: converted without a vocabulary", fix)
    backend, reasons = choose_backend(manifest, _session(options))
    return Described(manifest, backend, manifest.chat_format == "chatml" and not options.raw, tuple(reasons))


def _session(options: Options) -> SessionOptions:
    return SessionOptions(options.backend, options.device, options.threads, options.env_id, options.memory_mode)


def _load(manifest: Manifest, session: SessionOptions, options: Options) -> Model:
    try:
        return load(manifest.directory, session, rows=options.batch, raw=options.raw)
    except MemoryError:
        gigabytes = sum(record.size for record in manifest.files.values()) / 1e9
        fix = "close other programs, raise the limit (ulimit -v), or convert the model with a smaller --precision"
        reason = f"not enough memory for {gigabytes:.2f} GB"
        raise BackendError(f"{manifest.directory}: {reason}", fix, kind="memory") from None


def _prepare_keeping(options: Options) -> None:
    """With --keep 0 nothing is kept any longer; otherwise say why this run may have to wait."""
    from models.server.client import ask_server, end_server

    if not options.keep:
        end_server()
    elif ask_server("state").get("left", 0) is None:
        say("--keep: the model is in use by another run, waiting for it")


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
        raise ModelError("several models are installed", fix=f"choose one with --model: {names}")
    more = f"for Qwen-Audio itself see `{command(GET_THE_REAL_ONE)}`"
    say(f"no model is named or installed, so nano answers: {ABOUT_NANO}; {more}", quiet=options.quiet)
    return embedded_model(flavour=flavour)


def say_environments() -> None:
    """List ailia's environments on standard error, numbered as --env_id takes them, or say why there are none."""
    try:
        for line in list_environments():
            say(line)
    except BackendError as error:
        say(f"--env_list: {error}")
