"""The command line as one frozen `Options`. Imports nothing heavy: `--help` is instant."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "tests" / "golden" / "1272-128104-0000.flac"
PROMPT = "what does the person say?"
SYSTEM = "You are a helpful assistant."

MAX_THREADS = 1024  # far over any machine; the libraries crash on more than they can start

EPILOG = """\
several files after --input are the audios of ONE prompt; a folder gives one answer for each sound in it; - is standard
input. The answer goes to standard output, everything else to standard error.

exit codes: 0 all well, 1 an input failed or an answer could not be written, 2 wrong usage (an unknown flag, an empty or
too long prompt, a --savepath that cannot be), 3 model or backend missing or invalid, 4 nothing to work on, 130
interrupted, 141 the reader of the answer went away

  python3 qwen_audio.py -i talk.flac -p "what does the person say?"
  python3 qwen_audio.py -i a.wav b.wav -p "is it the same speaker?" --json | jq -r .text
  ffmpeg -i film.mkv -f wav - | python3 qwen_audio.py -i - -p "which sounds do you hear?"
"""


@dataclass(frozen=True)
class Options:
    """What the user asked for. `inputs` as typed; `savepath`, `model` may be None."""

    inputs: tuple[str, ...]
    prompt: str
    system: str
    max_new_tokens: int
    savepath: Path | None
    json: bool
    quiet: bool
    debug: bool
    model: Path | None
    verify: bool
    backend: str
    device: str
    threads: int
    env_id: int
    memory_mode: int
    env_list: bool
    benchmark_count: int
    notes: tuple[str, ...]


class UsageError(Exception):
    """A command line that cannot be meant; one line with the fix."""


class _Parser(argparse.ArgumentParser):
    """argparse, with a wrong usage raised, and --help written so that a closed pipe is noticed."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")

    def print_help(self, file: Any = None) -> None:  # noqa: ARG002 - argparse never names a file
        sys.stdout.write(self.format_help())
        sys.stdout.flush()


def parse_arguments(argv: list[str] | None = None) -> Options:
    """Parse `argv` (default: the process's own). Exits with 0 after --help, raises UsageError on wrong usage."""
    parser = _parser()
    given = parser.parse_args(argv)
    if not given.prompt.strip():
        parser.error("--prompt is empty; say what you want to know about the sound")
    if given.max_new_tokens < 1 or given.benchmark_count < 1:
        parser.error("--max-new-tokens and --benchmark_count must be at least 1")
    if not 0 <= given.threads <= MAX_THREADS:
        parser.error(f"--threads must be 0 (the library's choice) to {MAX_THREADS}")
    if given.inputs.count("-") > (0 if given.benchmark else 1):
        parser.error("standard input (-) can be read only once; save it to a file")
    if given.onnx and given.backend == "ailia":
        parser.error("--onnx and --backend ailia contradict each other")
    return Options(
        inputs=tuple(given.inputs or [str(SAMPLE)]),
        prompt=given.prompt,
        system=given.system,
        max_new_tokens=given.max_new_tokens,
        savepath=given.savepath,
        json=given.json,
        quiet=given.quiet,
        debug=given.debug,
        model=given.model,
        verify=given.verify,
        backend="onnxruntime" if given.onnx else given.backend,
        device=given.device,
        threads=given.threads,
        env_id=given.env_id,
        memory_mode=given.memory_mode,
        env_list=given.env_list,
        benchmark_count=given.benchmark_count + 1 if given.benchmark else 0,
        notes=tuple(_notes(given)),
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="qwen_audio.py",
        description="Ask Qwen-Audio about a sound.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    ask = parser.add_argument_group("asking")
    ask.add_argument(
        "-i",
        "--input",
        dest="inputs",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="sounds, a folder, or -",
    )
    ask.add_argument("-p", "--prompt", default=PROMPT, help=f"question or instruction (default: {PROMPT!r})")
    ask.add_argument("--system", default=SYSTEM, metavar="TEXT", help="system prompt of a chat model")
    ask.add_argument("--max-new-tokens", type=int, default=512, metavar="N", help="longest answer (default: 512)")
    out = parser.add_argument_group("output")
    out.add_argument("--json", action="store_true", help="one JSON object on one line for each answer")
    out.add_argument("-s", "--savepath", type=Path, metavar="FILE", help="write the answers to FILE too")
    out.add_argument("-q", "--quiet", action="store_true", help="no notes on standard error, only warnings and errors")
    out.add_argument("-b", "--benchmark", action="store_true", help="time the answer; a first run is not counted")
    out.add_argument("-bc", "--benchmark_count", type=int, default=5, metavar="N", help="runs to average (default: 5)")
    model = parser.add_argument_group("model and backend")
    model.add_argument(
        "--model", type=Path, metavar="DIR", help="model directory, or nano (default: the one under models/, else nano)"
    )
    model.add_argument("--verify", action="store_true", help="check every file of the model against its hash first")
    model.add_argument("--backend", choices=("auto", "onnxruntime", "ailia"), default="auto", help="default: auto")
    model.add_argument("--onnx", action="store_true", help="the same as --backend onnxruntime")
    model.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default), cuda, cuda:1, … (ONNX Runtime)")
    model.add_argument("--threads", type=int, default=0, metavar="N", help="threads (default: the library's choice)")
    model.add_argument(
        "-e", "--env_id", type=int, default=-1, metavar="N", help="ailia environment (default: automatic)"
    )
    model.add_argument("--env_list", action="store_true", help="list ailia's environments on standard error, and go on")
    model.add_argument("--memory_mode", type=int, default=11, metavar="BITS", help="ailia memory mode (default: 11)")
    old = parser.add_argument_group("accepted for compatibility")
    old.add_argument("--debug", action="store_true", help="show the traceback of a failure too")
    old.add_argument("--profile", action="store_true", help="no profile is written: timings are in --json")
    old.add_argument("--ftype", default="audio", metavar="TYPE", help="only audio: this model hears")
    old.add_argument("-v", "--video", metavar="FILE", help="not supported: extract the sound with ffmpeg")
    old.add_argument("--required", action="store_true", help="no meaning here")
    old.add_argument("--disable_ailia_tokenizer", action="store_true", help="no meaning here: the tokenizer is our own")
    return parser


def _notes(given: argparse.Namespace) -> list[str]:
    """A clear word for each accepted flag that does nothing here."""
    notes = []
    if given.profile:
        notes.append("--profile: no profile is written; the timings are in --json")
    if given.ftype != "audio":
        notes.append(f"--ftype {given.ftype}: ignored, this model takes audio only")
    if given.video:
        notes.append(f"--video {given.video}: ignored; take its sound with `ffmpeg -i {given.video} sound.flac`")
    if given.required or given.disable_ailia_tokenizer:
        notes.append("--required and --disable_ailia_tokenizer have no meaning here")
    return notes
