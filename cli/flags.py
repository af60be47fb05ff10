"""Every flag of the command line: a line of `Options` each, from which the parser is made.

To add a flag, add its field: the group in --help, the names, and the words of --help. Its type says how it is parsed.
Imports nothing heavy: `--help` is instant.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from cli.output.streams import show_piece
from errors import UsageError, path

SAMPLE = Path(__file__).resolve().parent.parent / "tests" / "golden" / "1272-128104-0000.flac"
PROMPT = "what does the person say?"
SYSTEM = "You are a helpful assistant."
LONGEST_ANSWER = 512
FTYPES = ("audio", "image", "video", "text")  # kinds of files of the replaced tool

EPILOG = """\
Several files after -i are the audios of one prompt. A folder, a pattern, a list or --each gives one answer for each
file. - is standard input. Answers go to standard output, all else to standard error.

exit codes
  0  all well                                      4    nothing to work on
  1  an input failed, or an answer was not written  141  the reader of the answers went away
  2  wrong usage                                   129, 130, 143  hung up, interrupted, terminated
  3  no model, or no backend for it

examples
  python3 qwen_audio.py -i talk.flac -p "what does the person say?"
  python3 qwen_audio.py -i a.wav b.wav -p "is it the same speaker?" --json | jq -r .text
  python3 qwen_audio.py -i recordings -r --task transcribe -o answers -f txt,json
  find . -name '*.wav' -print0 | python3 qwen_audio.py --files-from - -0 --json > answers.jsonl
"""


def _flag(group: str, names: str, metavar: str, text: str, **settings: Any) -> Any:
    """A field of `Options` that a flag fills; `names` are parted by spaces, and empty for words without a flag."""
    settings |= {"help": text} | ({"metavar": metavar} if metavar else {})
    return field(metadata={"group": group, "names": names.split(), "settings": settings})


_TYPES = {"int": int, "float": float, "Path": path}
_plain = partial(_flag, "options")
_asking = partial(_flag, "asking")
_sounds = partial(_flag, "sounds")
_output = partial(_flag, "output")
_running = partial(_flag, "running")
_model = partial(_flag, "model and backend")
_old = partial(_flag, "accepted for compatibility")


class _Joined(argparse.Action):
    """Values with commas between them: where the flag is repeated, the list goes on."""

    def __call__(self, parser: Any, namespace: Any, values: Any, flag: Any = None) -> None:  # noqa: ARG002 - as argparse calls it
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, values if before is None else f"{before},{values}")


class _Once(argparse.Action):
    """A value that may be given once: of two, the first would be lost."""

    def __call__(self, parser: Any, namespace: Any, values: Any, flag: Any = None) -> None:
        if getattr(namespace, self.dest) not in (None, values):
            parser.error(f"{flag} is given twice; give it once")
        setattr(namespace, self.dest, values)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for, as `cli.options` has read it. None where nothing was said.

    `inputs` and `lists` are as typed. `prompts` are those of --prompt and --prompts-from; with a `task` there are none.
    `shard` is (number from 1, of how many). `max_new_tokens` None leaves it to the task. `keep` is in minutes.
    `benchmark_count` is 0 without --benchmark.
    """

    version: bool = _plain("--version", "", "show the versions of the program and its backends")

    prompts: tuple[str, ...] = _asking(
        "-p --prompt",
        "TEXT",
        f"question or instruction; may be repeated (default: {PROMPT!r})",
        action="append",
        default=[],
    )
    prompts_from: tuple[str, ...] = _asking(
        "--prompts-from", "FILE", "a file with one prompt on each line", action="append", default=[]
    )
    task: str | None = _asking(
        "--task", "NAME", "an official task in place of a prompt; see --list-tasks", action=_Once
    )
    language: str | None = _asking("--language", "NAME", "the language spoken: en, zh, de, es, ko, fr, ja, it")
    to: str | None = _asking("--to", "NAME", "the language to translate into")
    question: str | None = _asking("--question", "TEXT", "what --task question asks", action=_Once)
    word: str | None = _asking("--word", "TEXT", "the word that --task timestamps looks for", action=_Once)
    choices: tuple[str, ...] = _asking(
        "--choices", "A,B,…", "answer with one of these, and say how likely each is", action=_Joined
    )
    itn: bool = _asking("--itn", "", "write digits and punctuation, if the model can")
    caption_style: str | None = _asking(
        "--caption-style", "NAME", "base model only: plain, audiocaps or clotho (default)"
    )
    raw: bool = _asking("--raw", "", "ask a chat model with the prompt alone, as a base model")
    system: str = _asking("--system", "TEXT", "system prompt of a chat model", default=SYSTEM)
    max_new_tokens: int | None = _asking("--max-new-tokens", "N", f"longest answer (default: {LONGEST_ANSWER})")
    chat: bool = _asking("--chat", "", "a dialogue about the sounds, line by line")
    list_tasks: bool = _asking("--list-tasks", "", "show all tasks with their prompts")

    files: tuple[str, ...] = _sounds("", "FILE", "the same as --input FILE", nargs="*")
    inputs: tuple[str, ...] = _sounds(
        "-i --input", "FILE", "sounds, folders, patterns, or -", nargs="+", action="extend", default=[]
    )
    each: bool = _sounds("--each", "", "one answer for each file, not one about all of them")
    recursive: bool = _sounds("-r --recursive", "", "look into the folders of a folder")
    lists: tuple[str, ...] = _sounds(
        "--files-from",
        "FILE",
        "a list of sounds, one on each line, or JSON Lines, CSV or TSV with audio and prompt",
        action="append",
        default=[],
    )
    null: bool = _sounds("-0 --null", "", "names in the list end with NUL, as find -print0 writes them")
    ftype: str = _sounds("--ftype", "EXT,…", "take only these endings from folders, such as wav,flac", default="audio")
    shard: tuple[int, int] | None = _sounds(
        "--shard", "I/N", "only the I-th of N parts of all inputs, for job arrays", action=_Once
    )
    long: str = _sounds(
        "--long",
        "",
        "a sound over 30 s: ask about each window (default), or about the first 30 s only",
        choices=("windows", "first"),
        default="windows",
    )
    window: float = _sounds("--window", "SECONDS", "length of the longest window, 1 to 30 (default: 30)", default=30)
    clips: tuple[tuple[float, float], ...] = _sounds(
        "--clip", "START-END,…", "hear only these parts, in seconds, such as 0-10,95.5-", action=_Joined
    )

    json: bool = _output(
        "--json", "", "one line of JSON for each answer; those of earlier runs in --output-dir are shown, too"
    )
    savepath: Path | None = _output("-s --savepath", "FILE", "write the answers to FILE as well", action=_Once)
    output_dir: Path | None = _output(
        "-o --output-dir --output_dir",
        "DIR",
        "a file for each sound; a second run continues where the first stopped",
        action=_Once,
    )
    formats: tuple[str, ...] = _output(
        "-f --format --output-format --output_format",
        "A,B,…",
        "files for each sound: txt (default), json, srt, vtt, tsv, or all; html: one page with players, index.html",
        action=_Joined,
    )
    max_line_width: int = _output(
        "--max-line-width --max_line_width", "N", "subtitles: characters in a line (default: 42)", default=42
    )
    max_line_count: int = _output(
        "--max-line-count --max_line_count", "N", "subtitles: lines shown together (default: 2)", default=2
    )
    highlight_words: bool = _output(
        "--highlight-words --highlight_words", "", "subtitles: underline each word as it is said"
    )
    score: tuple[str, ...] = _output(
        "--score",
        "A,B,…",
        "compare the answers with what the list or a .txt beside each sound says: wer, cer, bleu, accuracy, …; a name "
        "that is none shows all; what --output-dir has is scored without asking again",
        action=_Joined,
    )
    overwrite: bool = _output(
        "--overwrite", "", "answer again what --output-dir has, and replace files there, whoever wrote them"
    )
    quiet: bool = _output("-q --quiet", "", "only warnings and errors on standard error")
    benchmark: bool = _output("-b --benchmark", "", "answer several times and show the times; the first is a warm-up")
    benchmark_count: int = _output(
        "-bc --benchmark_count", "N", "how often --benchmark answers (default: 5)", default=5
    )

    batch: int = _running("--batch", "N", "decode N answers side by side (default: 1)", default=1)
    timeout: float | None = _running("--timeout", "SECONDS", "give up on an input that takes longer")
    debug: bool = _running("--debug", "", "show the traceback of a failure")
    keep: float | None = _running(
        "--keep", "MINUTES", "keep the model open for later runs (default: $QWEN_AUDIO_KEEP); 0 closes it"
    )
    ray: str | None = _running(
        "--ray", "ADDRESS", "answer on a Ray cluster, without ADDRESS on one that is started here", nargs="?", const=""
    )
    actors: int | None = _running("--actors", "N", "models on the cluster (default: one for each of its machines)")
    doctor: bool = _running("--doctor", "", "show what is installed, what can run and what to do next")
    completion: str | None = _running(
        "--completion", "", "print a completion script for this shell", choices=("bash", "zsh", "fish")
    )

    model: Path | None = _model(
        "--model --model_dir",
        "DIR",
        "directory, or nano (default: $QWEN_AUDIO_MODEL, else the only one under models/, else nano)",
    )
    verify: bool = _model("--verify", "", "check every file of the model against its hash first")
    backend: str = _model(
        "--backend",
        "",
        "default: the first that can run the model",
        choices=("auto", "onnxruntime", "ailia"),
        default="auto",
    )
    onnx: bool = _model("--onnx", "", "the same as --backend onnxruntime")
    device: str = _model("--device", "NAME", "ONNX Runtime only: cpu (default), cuda, cuda:1, …", default="cpu")
    threads: int = _model("--threads", "N", "threads (default: one for each core)", default=0)
    env_id: int = _model("-e --env_id", "N", "ailia environment (default: automatic)", default=-1)
    env_list: bool = _model("--env_list", "", "list ailia's environments, then go on")
    memory_mode: int = _model("--memory_mode", "BITS", "ailia memory mode (default: 11)", default=11)

    profile: bool = _old("--profile", "", "does nothing; the timings are in --json")
    video: tuple[str, ...] = _old("-v --video", "FILE", "the same as --input FILE", action="append", default=[])
    verbose: str | None = _old("--verbose", "X", "does nothing; --quiet says less", nargs="?", const="")
    required: bool = _old("--required", "", "does nothing")
    disable_ailia_tokenizer: bool = _old("--disable_ailia_tokenizer", "", "does nothing")

    extensions: frozenset[str] | None  # what --ftype says
    notes: tuple[str, ...]  # of flags that do nothing here
    ends_kept_model: bool  # and nothing else


class _Parser(argparse.ArgumentParser):
    """argparse, with a wrong usage raised, and --help written so that a closed pipe is noticed."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}", fix="see --help")

    def print_help(self, file: Any = None) -> None:  # noqa: ARG002 - argparse never names a file
        show_piece(self.format_help())


def meant(word: str, flags: Iterable[str]) -> str:
    """What to say of the flag that an unknown one may mean; the name of a task is one, too."""
    from tokenizer.tasks import TASKS

    name = word.split("=", maxsplit=1)[0].replace("_", "-")
    near = [f"--task {name[2:]}"] if name[2:] in TASKS else get_close_matches(name, flags, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def build_parser() -> argparse.ArgumentParser:
    """All flags, in their groups."""
    parser = _Parser(
        prog="qwen_audio.py",
        description="Ask Qwen-Audio about a sound.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    groups: dict[str, Any] = {"options": parser}
    for one in fields(Options):
        if not one.metadata:  # read from other flags
            continue
        title, names, settings = one.metadata["group"], one.metadata["names"], dict(one.metadata["settings"])
        kind = str(one.type).removesuffix(" | None")
        if kind == "bool":
            settings["action"] = "store_true"
        elif kind in _TYPES:
            settings["type"] = _TYPES[kind]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        groups[title].add_argument(*(names or [one.name]), **settings, **({"dest": one.name} if names else {}))
    # A string, which argparse checks as if it were given.
    parser.set_defaults(keep=os.environ.get("QWEN_AUDIO_KEEP") or None)
    return parser
