"""`python3 -m tests.published answers --model DIR`: the dialogues that the authors publish, asked of a model here.

Each answer is shown below the published one. Its facts are checked, its wording is not: the authors sampled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from errors import AudioError
from qwen_audio import Model, answer, listen, load, prompt_ids
from tokenizer.chat import Turn

DIALOGUES = Path(__file__).parent / "answers.json"
GOLDEN = Path(__file__).parents[1] / "golden"
AROUND = 0.2  # seconds that a time may be off
WHERE = "the folder assets/audio of https://github.com/QwenLM/Qwen-Audio"


def dialogues() -> list[dict[str, Any]]:
    """The published ones, in order."""
    found: list[dict[str, Any]] = json.loads(DIALOGUES.read_text(encoding="utf-8"))["dialogues"]
    return found


def missing_facts(text: str, turn: dict[str, Any]) -> list[str]:
    """What the answer to a published question does not say; a fact is one of several words, or a time."""
    said = " ".join(text.casefold().split())
    missing = [" or ".join(words) for words in turn["facts"] if not any(word in said for word in words)]
    times = [float(one) for one in re.findall(r"\d+\.\d+", text)]
    late = [wanted for wanted in turn.get("times", ()) if not any(abs(time - wanted) <= AROUND for time in times)]
    return [*missing, *(f"{wanted} s" for wanted in late)]


def ask(model: Model, dialogue: dict[str, Any], sounds: dict[str, Path]) -> Iterator[str]:
    """The answer to each turn of a dialogue, with the turns before it in the prompt."""
    history: list[Turn] = []
    clips = []
    for turn in dialogue["turns"]:
        own = listen([sounds[name] for name in turn["audio"]], model) if turn["audio"] else []
        clips += own
        ids = prompt_ids(turn["prompt"], clips, model, history=history)
        text = "".join(answer(ids, clips, model)).strip()
        history.append(Turn(turn["prompt"], tuple(len(clip) for clip in own), text))
        yield text


def find_sounds(dialogue: dict[str, Any], folders: list[Path]) -> dict[str, Path]:
    """Name -> file of each sound of a dialogue; raises AudioError for one that is nowhere."""
    found = {}
    for name in (name for turn in dialogue["turns"] for name in turn["audio"]):
        there = [folder / name for folder in folders if (folder / name).is_file()]
        if not there:
            raise AudioError(f"{name}: not there", f"give --audio with {WHERE}")
        found[name] = there[0]
    return found


def compare(directory: Path | None, folders: list[Path]) -> dict[str, Any]:
    """Ask all dialogues that the model and the sounds allow, show them, and count."""
    chat = load(directory)
    counts = {"turns": 0, "right": 0, "not_asked": 0}
    for number, dialogue in enumerate(dialogues(), 1):
        is_chat = dialogue["model"] == "chat"
        print(f"\n{number}. {'Qwen-Audio-Chat' if is_chat else 'Qwen-Audio'}")
        try:
            sounds = find_sounds(dialogue, folders)
        except AudioError as error:
            print(f"   not asked: {error}")
            counts["not_asked"] += len(dialogue["turns"])
            continue
        if is_chat and not chat.chat:
            print("   not asked: the model is no chat model")
            counts["not_asked"] += len(dialogue["turns"])
            continue
        answers = ask(replace(chat, chat=is_chat), dialogue, sounds)
        for turn, text in zip(dialogue["turns"], answers, strict=True):
            missing = missing_facts(text, turn)
            counts["turns"] += 1
            counts["right"] += not missing
            print(f"   sounds     {', '.join(turn['audio']) or 'the same'}\n   prompt     {turn['prompt']}")
            print(f"   published  {turn['answer']}\n   here       {text}")
            print(f"   facts      {'not said: ' + ', '.join(missing) if missing else 'all there'}")
    return counts
