"""festival 2.5 as a child process that stays: diphone and statistical voices, with times from the utterance.

One festival for each process of ours; it reads Scheme on its stdin, answers with one line a segment, and leaves the
samples in a file in memory. A festival that hangs is not waited for longer than `TIMEOUT`.
"""

import atexit
import os
import random
import selectors
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from models.nano.train.utterance import Utterance, Voice, finish, from_segments

TIMEOUT = 30.0  # seconds
SCHEME = """
(define (nano_say text path)
  (let ((u (utt.synth (eval (list 'Utterance 'Text text)))) (n 0))
    (mapcar (lambda (item) (if (not (item.relation.parent item 'Token))
        (begin (item.set_feat item "place" n) (set! n (+ n 1)))))
      (utt.relation.items u 'Token)) ; words hang below their tokens
    (utt.save.wave u path 'raw)
    (format t "rate %d\\n" (cadr (assoc 'sample_rate (wave.info (utt.wave u)))))
    (mapcar (lambda (s)
      (format t "%s %f %s\\n" (item.name s) (item.feat s "end")
        (if (item.relation.parent s 'SylStructure)
          (item.feat s "R:SylStructure.parent.parent.R:Token.parent.place") -1)))
      (utt.relation.items u 'Segment))
    (format t "done\\n")
    (fflush nil)))
"""


@dataclass(frozen=True)
class _Speaker:
    voice: Voice
    f0: float  # Hz, the speaker's own mean; 0 where the voice brings its own melody


SPEAKERS = (
    _Speaker(Voice("festival", "kal_diphone", "en", "man", "seen"), 105),
    _Speaker(Voice("festival", "ked_diphone", "en", "man", "other"), 105),
    _Speaker(Voice("festival", "cmu_us_slt_arctic_hts", "en", "woman", "other"), 0),
    _Speaker(Voice("festival", "lp_diphone", "it", "woman", "seen"), 0),
    _Speaker(Voice("festival", "pc_diphone", "it", "man", "other"), 0),
)


def voices() -> list[Voice]:
    return [speaker.voice for speaker in SPEAKERS]


class _Festival:
    """The child process; commands in, lines out."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")  # noqa: S108 - a private directory is made in it
        self.pid = os.getpid()
        self.directory = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self.path = Path(self.directory.name) / "speech.raw"
        self.process = subprocess.Popen(
            ["festival", "--pipe"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.selector = selectors.DefaultSelector()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.commands, self.answers = self.process.stdin, self.process.stdout
        self.selector.register(self.answers, selectors.EVENT_READ)
        atexit.register(self.close)
        self.send(SCHEME)

    def send(self, command: str) -> None:
        self.commands.write(command.encode("latin-1", errors="replace"))
        self.commands.flush()

    def lines(self) -> list[str]:
        """Everything up to the line "done"."""
        received = b""
        while not received.endswith(b"done\n"):
            ready = self.selector.select(TIMEOUT)
            piece = os.read(self.answers.fileno(), 65536) if ready else b""
            if not piece:
                _festival.cache_clear()
                self.close()
                msg = "festival stopped answering: " + received.decode(errors="replace")[-200:]
                raise RuntimeError(msg)
            received += piece
        return received.decode("latin-1").splitlines()[:-1]

    def close(self) -> None:
        if self.pid != os.getpid():
            return  # a fork of our process: the child is not its own
        self.process.kill()
        self.process.wait()
        self.selector.close()
        self.directory.cleanup()
        atexit.unregister(self.close)


@lru_cache(maxsize=1)
def _festival(pid: int) -> _Festival:
    """`pid` is the caller's own: a forked process starts a festival for itself."""
    assert pid == os.getpid()
    return _Festival()


def speak(text: str, voice: Voice, rng: random.Random, slower: float = 1.0) -> Utterance:
    speaker = next(speaker for speaker in SPEAKERS if speaker.voice.name == voice.name)
    festival = _festival(os.getpid())
    quoted = text.replace("\\", " ").replace('"', " ")
    festival.send(f'{_settings(speaker, rng, slower)} (nano_say "{quoted}" "{festival.path}")\n')
    first, *lines = festival.lines()
    samples = np.fromfile(festival.path, dtype=np.int16)
    rate = int(first.split()[1])
    if voice.language != "en":
        return finish(samples, rate, [], [])
    words, phones = from_segments([_segment(line) for line in lines], text.split())
    return finish(samples, rate, words, phones)


def _settings(speaker: _Speaker, rng: random.Random, slower: float) -> str:
    pitch = min(1.2, max(0.83, rng.gauss(1.0, 0.09)))
    stretch = min(1.3, max(0.75, rng.gauss(1.0, 0.12))) * slower
    name = speaker.voice.name
    commands = f"(voice_{name}) (Parameter.set 'Duration_Stretch {stretch:.3f})"
    if speaker.f0:
        deviation = rng.uniform(8, 22)
        target = f"(target_f0_mean {pitch * speaker.f0:.1f}) (target_f0_std {deviation:.1f})"
        commands += f" (set! int_lr_params '({target} (model_f0_mean 170) (model_f0_std 34)))"
    if name.endswith("_hts"):
        options = f'(list "-r" {1 / stretch:.3f}) (list "-fm" {12 * np.log2(pitch):.3f})'
        commands += f" (set! hts_engine_params (append hts_engine_params (list {options})))"
    return commands


def _segment(line: str) -> tuple[str, float, int | None]:
    name, end, place = line.split()
    return name, float(end), int(place) if int(place) >= 0 else None
