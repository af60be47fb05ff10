"""Every flag of the command line, in groups. Imports nothing heavy: `--help` is instant."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from errors import UsageError

SAMPLE = Path(__file__).resolve().parent.parent / "tests" / "golden" / "nano" / "speech.flac"
PROMPT = "what does the person say?"
SYSTEM = "You are a helpful assistant."
LONGEST_ANSWER = 512
FTYPES = ("audio", "image", "video", "text")  # kinds of files of the replaced tool

EPILOG = """\
several files after --input are the audios of ONE prompt; a folder, a pattern, a list or --each gives one answer for
each sound; - is standard input. The answer goes to standard output, everything else to standard error.

exit codes: 0 all well, 1 an input failed or an answer could not be written, 2 wrong usage (an unknown flag, an empty or
too long prompt, an output that cannot be), 3 model or backend missing or invalid, 4 nothing to work on, 130
interrupted, 141 the reader of the answer went away, 143 terminated

  python3 qwen_audio.py -i talk.flac -p "what does the person say?"
  python3 qwen_audio.py -i a.wav b.wav -p "is it the same speaker?" --json | jq -r .text
  python3 qwen_audio.py -i recordings -r --task transcribe -o answers -f txt,json     # again: goes on where it stopped
  find . -name '*.wav' -print0 | python3 qwen_audio.py --files-from - -0 --json > answers.jsonl
  ffmpeg -i film.mkv -f wav - | python3 qwen_audio.py -i - -p "which sounds do you hear?"
"""


class _Parser(argparse.ArgumentParser):
    """argparse, with a wrong usage raised, and --help written so that a closed pipe is noticed."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}", fix="see --help")

    def print_help(self, file: Any = None) -> None:  # noqa: ARG002 - argparse never names a file
        sys.stdout.write(self.format_help())
        sys.stdout.flush()


def build_parser() -> argparse.ArgumentParser:
    """All flags, in groups."""
    parser = _Parser(
        prog="qwen_audio.py",
        description="Ask Qwen-Audio about a sound.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="show the versions of the program and its backends")
    _add_asking(parser)
    _add_inputs(parser)
    _add_output(parser)
    _add_running(parser)
    model = parser.add_argument_group("model and backend")
    model.add_argument(
        "--model", type=Path, metavar="DIR", help="model directory, or nano (default: the one under models/, else nano)"
    )
    model.add_argument("--verify", action="store_true", help="check every file of the model against its hash first")
    model.add_argument("--backend", choices=("auto", "onnxruntime", "ailia"), default="auto", help="default: auto")
    model.add_argument("--onnx", action="store_true", help="the same as --backend onnxruntime")
    model.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default), cuda, cuda:1, … (ONNX Runtime)")
    model.add_argument("--threads", type=int, default=0, metavar="N", help="threads (default: one for each core)")
    model.add_argument(
        "-e", "--env_id", type=int, default=-1, metavar="N", help="ailia environment (default: automatic)"
    )
    model.add_argument("--env_list", action="store_true", help="list ailia's environments on standard error, and go on")
    model.add_argument("--memory_mode", type=int, default=11, metavar="BITS", help="ailia memory mode (default: 11)")
    old = parser.add_argument_group("accepted for compatibility")
    old.add_argument("--debug", action="store_true", help="show the traceback of a failure too")
    old.add_argument("--profile", action="store_true", help="no profile is written: timings are in --json")
    old.add_argument("-v", "--video", metavar="FILE", help="not supported: extract the sound with ffmpeg")
    old.add_argument("--required", action="store_true", help="no meaning here")
    old.add_argument("--disable_ailia_tokenizer", action="store_true", help="no meaning here: the tokenizer is our own")
    return parser


def _add_asking(parser: argparse.ArgumentParser) -> None:
    ask = parser.add_argument_group("asking")
    ask.add_argument(
        "-p",
        "--prompt",
        dest="prompts",
        action="append",
        default=[],
        metavar="TEXT",
        help=f"question or instruction, may be repeated (default: {PROMPT!r})",
    )
    ask.add_argument("--prompts-from", metavar="FILE", help="one prompt on each line; each sound is heard once")
    ask.add_argument("--task", metavar="NAME", help="an official task in place of a prompt, see --list-tasks")
    ask.add_argument("--language", metavar="NAME", help="what is spoken (en, zh, de, es, ko, fr, ja, it)")
    ask.add_argument("--to", metavar="NAME", help="what to translate into")
    ask.add_argument("--question", metavar="TEXT", help="what --task question asks")
    ask.add_argument("--word", metavar="TEXT", help="whose times --task word-time asks for")
    ask.add_argument("--choices", metavar="A,B,…", help="answer with one of these, and tell how likely each is")
    ask.add_argument("--itn", action="store_true", help="numbers and marks as they are written, where the model knows")
    ask.add_argument("--caption-style", metavar="NAME", help="plain, audiocaps or clotho (default), of a base model")
    ask.add_argument("--raw", action="store_true", help="ask a chat model as a base model is asked: tags, no dialogue")
    ask.add_argument("--system", default=SYSTEM, metavar="TEXT", help="system prompt of a chat model")
    ask.add_argument("--max-new-tokens", type=int, metavar="N", help=f"longest answer (default: {LONGEST_ANSWER})")
    ask.add_argument("--chat", action="store_true", help="talk about the sounds, line by line")
    ask.add_argument("--list-tasks", action="store_true", help="show all tasks with their prompts, and exit")


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument_group("sounds")
    inputs.add_argument(
        "-i",
        "--input",
        dest="inputs",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="sounds, folders, patterns, or -",
    )
    inputs.add_argument("--each", action="store_true", help="one answer for each file, not one about all of them")
    inputs.add_argument("-r", "--recursive", action="store_true", help="folders with all that is below them")
    inputs.add_argument(
        "--files-from",
        dest="lists",
        action="append",
        default=[],
        metavar="FILE",
        help="a list of sounds, one on each line (or JSON: audio, prompt); - is standard input",
    )
    inputs.add_argument("-0", "--null", action="store_true", help="the list is separated by NUL, as find -print0 does")
    inputs.add_argument("--ftype", default="audio", metavar="EXT,…", help="only these endings in folders (wav,flac)")
    inputs.add_argument("--shard", metavar="I/N", help="only the I-th of N parts of the list, for job arrays")
    inputs.add_argument(
        "--long",
        choices=("windows", "first"),
        default="windows",
        help="over 30 s: ask about each window (default), or about the first 30 s as the original does",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    out = parser.add_argument_group("output")
    out.add_argument("--json", action="store_true", help="one JSON object on one line for each answer")
    out.add_argument("-s", "--savepath", type=Path, metavar="FILE", help="write the answers to FILE too")
    out.add_argument("-o", "--output-dir", type=Path, metavar="DIR", help="a file for each sound; what is done is kept")
    out.add_argument("-f", "--format", dest="formats", metavar="A,B,…", help="txt, json, srt, vtt, tsv, all (txt)")
    out.add_argument("--overwrite", action="store_true", help="answer again what --output-dir has already")
    out.add_argument("-q", "--quiet", action="store_true", help="no notes on standard error, only warnings and errors")
    out.add_argument("-b", "--benchmark", action="store_true", help="time the answer; a first run is not counted")
    out.add_argument("-bc", "--benchmark_count", type=int, default=5, metavar="N", help="runs to average (default: 5)")


def _add_running(parser: argparse.ArgumentParser) -> None:
    running = parser.add_argument_group("running")
    running.add_argument("--batch", type=int, default=1, metavar="N", help="decode N sounds side by side (default: 1)")
    running.add_argument("--timeout", type=float, metavar="SECONDS", help="give up on a sound that takes longer")
    running.add_argument(
        "--keep",
        type=float,
        default=os.environ.get("QWEN_AUDIO_KEEP") or None,  # a string, which argparse checks as if it were given
        metavar="MINUTES",
        help="keep the model open for later runs (default: $QWEN_AUDIO_KEEP, else not; 0 ends it)",
    )
    running.add_argument("--doctor", action="store_true", help="say what is installed, what can run, and what to do")
    running.add_argument("--completion", choices=("bash", "zsh", "fish"), help="print a completion script, and exit")
