"""The command line as one frozen `Options`. Imports nothing heavy: `--help` is instant."""

from __future__ import annotations

import argparse
import os
import re
import stat
import sys
from importlib.util import find_spec
from pathlib import Path

from cli.flags import FTYPES, PROMPT, SAMPLE, SYSTEM, Options, build_parser, meant
from cli.inputs.text import MARKS, decode, is_whole
from cli.output.streams import show_piece
from errors import QwenAudioError, command

__all__ = ["PROMPT", "SAMPLE", "SYSTEM", "Options", "parse_arguments"]

STDIN = "-"
ROOT = Path(__file__).resolve().parent.parent
MAX_THREADS = 1024  # far over any machine; the libraries crash on more than they can start
MAX_BATCH = 256
LONGEST_WINDOW = 30  # seconds that the model hears at once
SHORTEST_CLIP = 0.03  # seconds: one token of audio
LONGEST_NUMBER = 10  # digits
MAX_SECONDS = 1e6  # of --timeout: what a lock can wait
MAX_MINUTES = 10080  # of --keep: a week
IN_CHAT = {  # what a dialogue heeds, and what does nothing anywhere
    "help", "chat", "inputs", "files", "video", "system", "max_new_tokens", "json", "quiet", "debug", "keep", "model",
    "verify", "backend", "onnx", "device", "threads", "env_id", "env_list", "memory_mode", "verbose", "profile",
    "required", "disable_ailia_tokenizer",
}  # fmt: skip


def parse_arguments(argv: list[str] | None = None) -> Options:
    """Parse `argv` (default: the process's own). Exits with 0 after --help and its like, raises UsageError."""
    parser = build_parser()
    argv = sys.argv[1:] if argv is None else argv
    flags = [flag for action in parser._actions for flag in action.option_strings]  # noqa: SLF001 - no other list exists
    for word in argv[: argv.index("--")] if "--" in argv else argv:
        if word.startswith("-") and word not in {*flags, STDIN} and os.path.exists(word):  # noqa: PTH110
            parser.error(f"{word} looks like a flag; write ./{word} for the file")
        if word.startswith("-") and (word.endswith("=--") or (word[2:] == "--" and word[:2] in flags)):
            parser.error(f"{word}: -- is no value")  # argparse would make a list of it
    given, others = parser.parse_known_args(argv)  # the others may be files that do not follow each other
    end = [*others, "--"].index("--")
    if unknown := [word for word in others[:end] if word.startswith("-") and word != STDIN]:
        parser.error(f"unknown flag {unknown[0]}{meant(unknown[0], flags)}")
    given.inputs = [*given.inputs, *given.files, *others[:end], *others[end + 1 :], *given.video]
    _print_and_exit(parser, given)
    _read_texts(parser, given)
    _check(parser, given)
    prompts = _prompts(parser, given)
    # $QWEN_AUDIO_KEEP=0 keeps nothing, but it asks for nothing either.
    is_told = any(word.startswith("--keep") for word in argv) and given.keep == 0
    asks = given.inputs or given.lists or given.chat or given.prompts or given.prompts_from or given.task
    only_ends = is_told and not asks
    read = {
        "inputs": _inputs(parser, given, bare=not argv, is_command=only_ends or given.doctor or given.env_list),
        "lists": tuple(given.lists),
        "extensions": _extensions(given.ftype),
        "shard": _shard(parser, given.shard),
        "prompts": prompts,
        "prompts_from": tuple(given.prompts_from),
        "video": tuple(given.video),
        "clips": _clips(parser, given.clips),
        "choices": _choices(given.choices),
        "formats": _formats(parser, given),
        "score": _metrics(parser, given, prompts),
        "backend": "onnxruntime" if given.onnx else given.backend,
        "benchmark_count": given.benchmark_count + 1 if given.benchmark else 0,
        "notes": tuple(_notes(given)),
        "ends_kept_model": only_ends,
    }
    return Options(**vars(given) | read)


def _read_texts(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """What is asked is UTF-8, also where Python read it as something else (LC_ALL=C); file names may be any bytes."""
    for action in parser._actions:  # noqa: SLF001 - no other list exists
        if action.metavar == "TEXT" or action.dest == "choices":
            value, name = getattr(given, action.dest), action.option_strings[-1]
            texts = [_text(parser, one, name) for one in ([value] if isinstance(value, str) else value or ())]
            setattr(given, action.dest, texts[0] if isinstance(value, str) else value and texts)


def _text(parser: argparse.ArgumentParser, text: str, flag: str) -> str:
    try:
        return text if is_whole(text) else os.fsencode(text).decode()
    except UnicodeError:
        parser.error(f"{flag} {text:.40}: not UTF-8; set the terminal to it")


def _inputs(
    parser: argparse.ArgumentParser, given: argparse.Namespace, *, bare: bool, is_command: bool
) -> tuple[str, ...]:
    """The sounds as typed, or what is piped in; a bare command answers about the sample that comes with the program."""
    if given.inputs or given.lists or given.chat or is_command:
        return tuple(given.inputs)
    if _is_piped_in() and STDIN not in given.prompts_from:
        return (STDIN,)
    if not bare:
        parser.error("no sound is named; give one with --input, or pipe one in")
    return (str(SAMPLE),)


def _is_piped_in() -> bool:
    """Whether standard input is a pipe, a socket or a file; it is neither for a terminal and /dev/null."""
    try:
        status = os.fstat(sys.stdin.fileno())
    except (OSError, ValueError):  # closed, or a stand-in without a descriptor
        return False
    return any(is_kind(status.st_mode) for is_kind in (stat.S_ISFIFO, stat.S_ISREG, stat.S_ISSOCK))


def _print_and_exit(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """--version, --list-tasks and --completion print something and end the program, as --help does."""
    text = None
    if given.version:
        from cli.version import version_line

        text = version_line()
    if given.list_tasks:
        from tokenizer.tasks import list_tasks

        text = list_tasks()
    if given.completion:
        from cli.completion import completion
        from tokenizer.tasks import LANGUAGES, TASKS

        words = {"task": list(TASKS), "language": list(LANGUAGES), "to": list(LANGUAGES)}
        text = completion(parser, given.completion, words=words)
    if text is not None:
        show_piece(text.rstrip("\n") + "\n")
        raise SystemExit(0)


def _check(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Refuse what contradicts itself or is out of range."""
    longest = 1 if given.max_new_tokens is None else given.max_new_tokens
    if min(longest, given.benchmark_count, given.batch) < 1:
        parser.error("--max-new-tokens, --batch and --benchmark_count must be at least 1")
    if not 0 <= given.threads <= MAX_THREADS:
        parser.error(f"--threads must be 0 (the library's choice) to {MAX_THREADS}")
    if not 1 <= given.window <= LONGEST_WINDOW:
        parser.error(f"--window must be 1 to {LONGEST_WINDOW} seconds")
    if min(given.max_line_width, given.max_line_count) < 1:
        parser.error("--max-line-width and --max-line-count must be at least 1")
    if given.batch > MAX_BATCH:
        parser.error(f"--batch must be 1 to {MAX_BATCH}")
    if given.timeout is not None and not 0 < given.timeout < MAX_SECONDS:
        parser.error("--timeout must be a number of seconds over 0")
    if given.keep is not None and not 0 <= given.keep <= MAX_MINUTES:
        parser.error(f"--keep must be 0 (close the model) to {MAX_MINUTES} minutes")
    sources = [*given.inputs, *given.lists, *given.prompts_from]
    if sources.count("-") > (0 if given.benchmark else 1):
        parser.error("standard input (-) can be read only once; save it to a file")
    if given.onnx and given.backend == "ailia":
        parser.error("--onnx and --backend ailia contradict each other")
    if given.task and (given.prompts or given.prompts_from):
        parser.error("--task brings its own prompt; leave --prompt out, or leave --task out")
    if given.long == "first" and (given.clips is not None or given.window < LONGEST_WINDOW):
        parser.error("--long first hears the first 30 s as they are; leave --clip and --window out")
    _check_chat(parser, given)
    _check_cluster(parser, given)
    if given.output_dir and (given.savepath or given.benchmark):
        parser.error("--output-dir keeps each answer in a file, once; leave --savepath and --benchmark out")
    if given.formats and not given.output_dir:
        parser.error("--format needs --output-dir; for standard output there is --json")


def _check_chat(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """A dialogue has its own way in and out: a flag that it would not heed is refused."""
    if not given.chat:
        return
    if STDIN in given.inputs:
        parser.error("--chat reads the questions from standard input; name the sound's file")
    for action in parser._actions:  # noqa: SLF001 - no other list exists
        default = parser.get_default(action.dest)
        if action.dest not in IN_CHAT and getattr(given, action.dest, default) != default:
            parser.error(f"--chat does not go with {action.option_strings[-1]}")


def _check_cluster(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    if given.ray is None:
        if given.actors is not None:
            parser.error("--actors belongs to --ray")
        return
    if given.chat or given.benchmark:
        parser.error("--ray does not go with --chat or --benchmark")
    if given.actors is not None and given.actors < 1:
        parser.error("--actors must be at least 1")
    if find_spec("ray") is None:
        fix = f"`{command('pip install -r requirements-ray.txt')}`"
        raise QwenAudioError("--ray: ray is not installed", fix, kind="package", exit_code=3)


def _prompts(parser: argparse.ArgumentParser, given: argparse.Namespace) -> tuple[str, ...]:
    """All prompts, in the order --prompt, --prompts-from; the default where nothing is asked."""
    prompts = list(given.prompts)
    for name in given.prompts_from:
        try:
            data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
            if b"\0" in data and not data.startswith(tuple(mark for mark, _ in MARKS)):
                parser.error(f"--prompts-from {name}: not a text; save it as UTF-8")
            found = [line.strip() for line in decode(data).splitlines() if line.strip()]
        except (OSError, ValueError) as error:
            parser.error(f"--prompts-from {name}: cannot be read ({error})")
        if not found:
            parser.error(f"--prompts-from {name}: no prompt in it; write one on each line")
        if not all(map(is_whole, found)):
            parser.error(f"--prompts-from {name}: not UTF-8; save it so")
        prompts += found
    if not all(prompt.strip() for prompt in prompts):
        parser.error("--prompt is empty; say what you want to know about the sound")
    return tuple(prompts or ([] if given.task else [PROMPT]))


def _shard(parser: argparse.ArgumentParser, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    number, slash, count = text.partition("/")
    numbers = [int(part) for part in (number, count) if part.isdecimal() and len(part) < LONGEST_NUMBER]
    if len(numbers) < 2 or not slash or not 0 <= numbers[0] <= numbers[1] or not numbers[1]:
        parser.error(f"--shard {text:.40}: write i/n, the i-th of n parts, such as 1/8; 0/8 is 8/8")
    return numbers[0], numbers[1]


def _clips(parser: argparse.ArgumentParser, text: str | None) -> tuple[tuple[float, float], ...]:
    """--clip: (start, end) of each part in seconds, in order; without its end the last goes to the recording's."""
    found, position = list[tuple[float, float]](), 0.0
    for part in [] if text is None else text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*-\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)?\s*", part)
        start, end = (float(match[1]), float(match[2] or "inf")) if match else (0.0, 0.0)
        if not position <= start < end:
            parser.error(f"--clip {text:.40}: write START-END in seconds, one behind the other, such as 0-10,95.5-")
        if end - start < SHORTEST_CLIP:
            parser.error(f"--clip {part.strip():.40}: a part must last at least {SHORTEST_CLIP} s to be heard")
        found.append((start, end))
        position = end
    return tuple(found)


def _formats(parser: argparse.ArgumentParser, given: argparse.Namespace) -> tuple[str, ...]:
    """The formats of --output-dir, each once; txt where none is named. What is read again brings json."""
    from cli.output.formats import FORMATS, PAGE

    names = _listed(given.formats) or ("txt",)
    if unknown := [name for name in names if name not in (*FORMATS, PAGE, "all")]:
        parser.error(f"--format {unknown[0]}: choose from {', '.join(FORMATS)}, all, {PAGE}")
    # A later run counts or shows the answers of this one: it reads them from the json files, as the page does.
    wanted = {*names, *FORMATS * ("all" in names), *["json"] * (PAGE in names or bool(given.score) or given.json)}
    return tuple(name for name in (*FORMATS, PAGE) if name in wanted)


def _metrics(parser: argparse.ArgumentParser, given: argparse.Namespace, prompts: tuple[str, ...]) -> tuple[str, ...]:
    """--score: the metrics, each once."""
    names = tuple(dict.fromkeys(_listed(given.score)))
    if given.score is not None:
        from cli.score.table import check_metrics

        if not names:
            parser.error("--score needs a metric, such as wer")
        if len(prompts) > 1:
            parser.error("--score compares one answer about each sound; give one prompt")
        check_metrics(names)
    return names


def _extensions(ftype: str) -> frozenset[str] | None:
    """--ftype: the suffixes it names, or None where it names a kind of file (the replaced tool's use of it)."""
    names = [] if ftype in FTYPES else _listed(ftype)
    return frozenset("." + name.lower().lstrip(".") for name in names) or None


def _choices(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    from tokenizer.tasks import parse_choices

    return parse_choices(",".join(_listed(text)))


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _notes(given: argparse.Namespace) -> list[str]:
    """A clear word for each accepted flag that does nothing here."""
    notes = []
    if given.profile:
        notes.append("--profile: no profile is written; the timings are in --json")
    if given.ftype in FTYPES[1:]:
        notes.append(f"--ftype {given.ftype}: ignored, this model takes audio only")
    if given.required or given.disable_ailia_tokenizer:
        notes.append("--required and --disable_ailia_tokenizer have no meaning here")
    return notes
