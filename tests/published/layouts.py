"""The files of each benchmark, as its publisher lays them out, -> rows of a list for --files-from.

A row names its sound whether or not it is there: what is missing is counted by the run. A sound that is listed twice
with the same question is one row. Raises FileNotFoundError where the data set is not below the root at all, KeyError or
ValueError where one of its files is not as published.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cli.inputs.text import decode

Row = dict[str, Any]


def librispeech(root: Path, *, split: str) -> Iterator[Row]:
    """LibriSpeech/test-clean/1089/134686/1089-134686-0000.flac, and 1089-134686.trans.txt beside it."""
    folder = _there(root / "LibriSpeech" / split)
    for path in sorted(folder.rglob("*.trans.txt")):
        for name, text in _pairs(path):
            yield {"audio": str(path.parent / f"{name}.flac"), "gt": text, "task": "transcribe", "language": "en"}


def aishell1(root: Path, *, split: str) -> Iterator[Row]:
    """data_aishell/wav/test/S0764/BAC009S0764W0121.wav, and one transcript with spaces between the words."""
    base = _there(root / "data_aishell")
    texts = dict(_pairs(base / "transcript" / "aishell_transcript_v0.8.txt"))
    for path in sorted((base / "wav" / split).rglob("*.wav")):
        if path.stem in texts:
            text = texts[path.stem].replace(" ", "")
            yield {"audio": str(path), "gt": text, "task": "transcribe", "language": "zh"}


def aishell2(root: Path, *, device: str) -> Iterator[Row]:
    """AISHELL-DEV-TEST-SET/iOS/test/wav.scp and trans.txt."""
    folder = _there(root / "AISHELL-DEV-TEST-SET" / device / "test")
    sounds = dict(_pairs(folder / "wav.scp"))
    for name, text in _pairs(folder / "trans.txt"):
        audio = str(folder / sounds.get(name, f"wav/{name}.wav"))
        yield {"audio": audio, "gt": text, "task": "transcribe", "language": "zh"}


def covost2(root: Path, *, spoken: str, to: str) -> Iterator[Row]:
    """covost2/covost_v2.en_de.test.tsv, and Common Voice's clips in cv-corpus-4/en/clips."""
    codes = {"zh": "zh-CN"}
    source, target = codes.get(spoken, spoken), codes.get(to, to)
    table = _there(root / "covost2" / f"covost_v2.{source}_{target}.test.tsv")
    for row in _table(table, delimiter="\t", quoting=csv.QUOTE_NONE):
        audio = root / "cv-corpus-4" / source / "clips" / row["path"]
        yield {"audio": str(audio), "gt": row["translation"], "task": "translate", "language": spoken}


def clotho(root: Path) -> Iterator[Row]:
    """clotho/evaluation/*.wav, and five captions of each in clotho_captions_evaluation.csv."""
    for row in _table(_there(root / "clotho" / "clotho_captions_evaluation.csv")):
        captions = [row[f"caption_{number}"] for number in range(1, 6)]
        yield {"audio": str(root / "clotho" / "evaluation" / row["file_name"]), "gt": captions, "task": "caption"}


def word_times(root: Path) -> Iterator[Row]:
    """word-times.jsonl: audio (below the root), gt as the base model writes it, language."""
    for line in filter(str.strip, _text(_there(root / "word-times.jsonl")).split("\n")):
        row = json.loads(line)
        yield {"task": "timestamps", "language": "en", **row, "audio": str(root / row["audio"])}


def cochlscene(root: Path) -> Iterator[Row]:
    """CochlScene/Test/SubwayStation/*.wav: the folder is the scene, of which the model may part the words."""
    for path in sorted(_there(root / "CochlScene" / "Test").glob("*/*.wav")):
        scene = path.parent.name
        yield {"audio": str(path), "gt": [scene, re.sub("(?<=[a-z])(?=[A-Z])", " ", scene)], "task": "scene"}


def tut2017(root: Path) -> Iterator[Row]:
    """TUT-acoustic-scenes-2017-evaluation/evaluation_setup/evaluate.txt: sound, tab, scene."""
    base = _there(root / "TUT-acoustic-scenes-2017-evaluation")
    for name, scene in _pairs(base / "evaluation_setup" / "evaluate.txt"):
        yield {"audio": str(base / name), "gt": scene, "task": "scene"}


def meld(root: Path) -> Iterator[Row]:
    """MELD.Raw/test_sent_emo.csv, and output_repeated_splits_test/dia0_utt0.mp4."""
    base = _there(root / "MELD.Raw")
    for row in _table(base / "test_sent_emo.csv"):
        name = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}.mp4"
        yield {"audio": str(base / "output_repeated_splits_test" / name), "gt": row["Emotion"], "task": "emotion"}


def clothoaqa(root: Path) -> Iterator[Row]:
    """ClothoAQA/clotho_aqa_test.csv: three answers to each question, of which the most frequent counts."""
    base = _there(root / "ClothoAQA")
    asked = defaultdict[tuple[str, str], list[str]](list)
    for row in _table(base / "clotho_aqa_test.csv"):
        asked[row["file_name"], row["QuestionText"]].append(row["answer"].strip().lower())
    for (name, question), answers in asked.items():
        likeliest = max(answers, key=answers.count)
        yield {"audio": str(base / "audio_files" / name), "question": question, "gt": likeliest, "task": "question"}


def vocalsound(root: Path) -> Iterator[Row]:
    """vocalsound/audio_16k/*.wav, datafiles/te.json, and class_labels_indices_vs.csv with what its codes mean."""
    base = _there(root / "vocalsound")
    names = {row["mid"]: row["display_name"] for row in _table(base / "class_labels_indices_vs.csv")}
    for row in json.loads(_text(base / "datafiles" / "te.json"))["data"]:
        audio = base / "audio_16k" / Path(row["wav"]).name
        yield {"audio": str(audio), "gt": names[row["labels"]], "task": "vocal-sound"}


def nsynth(root: Path) -> Iterator[Row]:
    """nsynth-test/examples.json and audio/*.wav."""
    base = _there(root / "nsynth-test")
    for name, row in sorted(json.loads(_text(base / "examples.json")).items()):
        tags = f"<|pitch|><|midi_pitch_{row['pitch']}|><|velocity|><|midi_velocity_{row['velocity']}|>"
        qualities = ",".join(one.replace("_", " ") for one in row["qualities_str"])
        note = f"{tags}<|sonic|>{qualities}<|instrument|>{row['instrument_family_str'].replace('_', ' ')}"
        yield {"audio": str(base / "audio" / f"{name}.wav"), "gt": note, "task": "note"}


def _there(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(path)
    return path


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    """name and text of each line; what parts them is a space or a tab."""
    for line in _text(path).split("\n"):
        parts = line.split(maxsplit=1)
        if parts:
            yield parts[0], parts[1].strip() if len(parts) == 2 else ""


def _table(path: Path, **form: Any) -> Iterator[dict[str, str]]:
    yield from csv.DictReader(io.StringIO(_text(path), newline=""), **form)


def _text(path: Path) -> str:
    """As a list of --files-from is read: with a mark in front or none; a text that is not UTF-8 fails its own row."""
    return decode(path.read_bytes())
