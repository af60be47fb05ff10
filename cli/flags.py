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
Several files after -i are the audios of one prompt. A folder, a pattern, a list or --each gives one answer for each
file. - is standard input. Answers go to standard output, all else to standard error.

exit codes
  0  all well                                      4    nothing to work on
  1  an input failed, or an answer was not written  130  interrupted
  2  wrong usage                                   141  the reader of the answers went away
  3  no model, or no backend for it                143  terminated

examples
  python3 qwen_audio.py -i talk.flac -p "what does the person say?"
  python3 qwen_audio.py -i a.wav b.wav -p "is it the same speaker?" --json | jq -r .text
  python3 qwen_audio.py -i recordings -r --task transcribe -o answers -f txt,json
  find . -name '*.wav' -print0 | python3 qwen_audio.py --files-from - -0 --json > answers.jsonl
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
        "--model",
        "--model_dir",
        type=Path,
        metavar="DIR",
        help="model directory, or nano (default: the only one under models/, else nano)",
    )
    model.add_argument("--verify", action="store_true", help="first check every file of the model against its hash")
    model.add_argument(
        "--backend",
        choices=("auto", "onnxruntime", "ailia"),
        default="auto",
        help="default: the first that can run the model",
    )
    model.add_argument("--onnx", action="store_true", help="the same as --backend onnxruntime")
    model.add_argument(
        "--device", default="cpu", metavar="NAME", help="of ONNX Runtime: cpu (default), cuda, cuda:1, …"
    )
    model.add_argument("--threads", type=int, default=0, metavar="N", help="threads (default: one for each core)")
    model.add_argument(
        "-e", "--env_id", type=int, default=-1, metavar="N", help="ailia environment (default: automatic)"
    )
    model.add_argument("--env_list", action="store_true", help="list ailia's environments, then go on")
    model.add_argument("--memory_mode", type=int, default=11, metavar="BITS", help="ailia memory mode (default: 11)")
    old = parser.add_argument_group("accepted for compatibility")
    old.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    old.add_argument("--profile", action="store_true", help="does nothing; the timings are in --json")
    old.add_argument("-v", "--video", metavar="FILE", help="the same as --input FILE")
    old.add_argument("--verbose", nargs="?", const="", metavar="X", help="does nothing; --quiet says less")
    old.add_argument("--required", action="store_true", help="does nothing")
    old.add_argument("--disable_ailia_tokenizer", action="store_true", help="does nothing")
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
        help=f"question or instruction; may be repeated (default: {PROMPT!r})",
    )
    ask.add_argument("--prompts-from", metavar="FILE", help="a file with one prompt on each line")
    ask.add_argument("--task", metavar="NAME", help="an official task in place of a prompt; see --list-tasks")
    ask.add_argument("--language", metavar="NAME", help="the language spoken: en, zh, de, es, ko, fr, ja, it")
    ask.add_argument("--to", metavar="NAME", help="the language to translate into")
    ask.add_argument("--question", metavar="TEXT", help="the question of --task question")
    ask.add_argument("--word", metavar="TEXT", help="the word whose times --task timestamps asks for")
    ask.add_argument("--choices", metavar="A,B,…", help="answer with one of these, and say how likely each is")
    ask.add_argument("--itn", action="store_true", help="write digits and punctuation, where the model can")
    ask.add_argument("--caption-style", metavar="NAME", help="of a base model: plain, audiocaps, clotho (default)")
    ask.add_argument("--raw", action="store_true", help="ask a chat model as a base model is asked")
    ask.add_argument("--system", default=SYSTEM, metavar="TEXT", help="system prompt of a chat model")
    ask.add_argument("--max-new-tokens", type=int, metavar="N", help=f"longest answer (default: {LONGEST_ANSWER})")
    ask.add_argument("--chat", action="store_true", help="a dialogue about the sounds, line by line")
    ask.add_argument("--list-tasks", action="store_true", help="show all tasks with their prompts")


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument_group("sounds")
    inputs.add_argument("files", nargs="*", metavar="FILE", help="the same as --input FILE")
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
    inputs.add_argument("-r", "--recursive", action="store_true", help="look into the folders of a folder")
    inputs.add_argument(
        "--files-from",
        dest="lists",
        action="append",
        default=[],
        metavar="FILE",
        help="a list of sounds, one on each line, or JSON Lines, CSV or TSV with audio and prompt",
    )
    inputs.add_argument(
        "-0", "--null", action="store_true", help="NUL ends each name of the list, as find -print0 writes it"
    )
    inputs.add_argument(
        "--ftype", default="audio", metavar="EXT,…", help="take only these endings from folders, such as wav,flac"
    )
    inputs.add_argument("--shard", metavar="I/N", help="only the I-th of N parts of all inputs, for job arrays")
    inputs.add_argument(
        "--long",
        choices=("windows", "first"),
        default="windows",
        help="over 30 s: ask about each window (default), or about the first 30 s only",
    )
    inputs.add_argument(
        "--window", type=float, default=30, metavar="SECONDS", help="longest window, 1 to 30 (default: 30)"
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    out = parser.add_argument_group("output")
    out.add_argument("--json", action="store_true", help="one line of JSON for each answer")
    out.add_argument("-s", "--savepath", type=Path, metavar="FILE", help="write the answers to FILE as well")
    out.add_argument(
        "-o",
        "--output-dir",
        "--output_dir",
        type=Path,
        metavar="DIR",
        help="a file for each sound; a second run goes on where the first stopped",
    )
    out.add_argument(
        "-f",
        "--format",
        "--output-format",
        "--output_format",
        dest="formats",
        metavar="A,B,…",
        help="of these files: txt (default), json, srt, vtt, tsv, all",
    )
    for flag, default, what in (("width", 42, "columns in a line"), ("count", 2, "lines at a time")):
        flags = (f"--max-line-{flag}", f"--max_line_{flag}")
        out.add_argument(
            *flags, type=int, default=default, metavar="N", help=f"of subtitles: {what} (default: {default})"
        )
    out.add_argument(
        "--highlight-words", "--highlight_words", action="store_true", help="underline each word as it is said"
    )
    out.add_argument("--score", metavar="A,B,…", help="hold the answers against references: wer, bleu, accuracy, …")
    out.add_argument("--overwrite", action="store_true", help="answer again what is in --output-dir already")
    out.add_argument("-q", "--quiet", action="store_true", help="only warnings and errors on standard error")
    out.add_argument(
        "-b",
        "--benchmark",
        action="store_true",
        help="answer several times and tell the times; the first does not count",
    )
    out.add_argument("-bc", "--benchmark_count", type=int, default=5, metavar="N", help="how many times (default: 5)")


def _add_running(parser: argparse.ArgumentParser) -> None:
    running = parser.add_argument_group("running")
    running.add_argument("--batch", type=int, default=1, metavar="N", help="decode N answers side by side (default: 1)")
    running.add_argument("--timeout", type=float, metavar="SECONDS", help="give up on an input that takes longer")
    running.add_argument(
        "--keep",
        type=float,
        default=os.environ.get("QWEN_AUDIO_KEEP") or None,  # a string, which argparse checks as if it were given
        metavar="MINUTES",
        help="keep the model open for later runs (default: $QWEN_AUDIO_KEEP); 0 closes it",
    )
    running.add_argument(
        "--doctor", action="store_true", help="say what is installed, what can run and what to do next"
    )
    running.add_argument("--completion", choices=("bash", "zsh", "fish"), help="print a completion script")
