"""The pipeline as Python code calls it, on the embedded model."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import qwen_audio
from audio_encoder.waveform import load_waveform
from tests.conftest import GOLDEN

SPEECH = GOLDEN / "1272-128104-0000.flac"
PROMPT = "what does the person say?"


@pytest.fixture(scope="module")
def model():
    return qwen_audio.load()


@pytest.fixture(scope="module")
def said(model):
    """What the command line says."""
    command = [sys.executable, str(GOLDEN.parents[1] / "qwen_audio.py"), "-q", "--model", "nano", "-i", str(SPEECH)]
    done = subprocess.run([*command, "-p", PROMPT], capture_output=True, text=True, check=True)
    return done.stdout.removesuffix("\n")


@pytest.mark.parametrize("sound", [str(SPEECH), SPEECH, load_waveform(SPEECH)], ids=["str", "Path", "array"])
def test_a_sound_is_a_name_a_path_or_an_array(model, said, sound):
    assert model.answer(PROMPT, sound) == said


def test_the_pieces_of_a_stream_are_the_answer(model, said):
    assert "".join(model.stream(PROMPT, SPEECH)) == said


def test_the_steps_are_the_answer(model, said):
    clips = qwen_audio.listen([SPEECH], model)
    ids = qwen_audio.prompt_ids(PROMPT, clips, model)
    assert "".join(qwen_audio.answer(ids, clips, model, max_new_tokens=256)) == said


@pytest.mark.slow
def test_several_sounds_are_in_one_prompt(model):
    clips = qwen_audio.listen([SPEECH, SPEECH], model)
    ids = qwen_audio.prompt_ids(PROMPT, clips, model)
    assert ids.count(model.tokenizer.audio_start) == 2
    assert model.answer(PROMPT, SPEECH, SPEECH, max_new_tokens=8)


@pytest.mark.slow
def test_a_long_recording_gets_a_line_for_each_window(model):
    speech = load_waveform(SPEECH)
    pause = np.zeros(16_000 * 28, np.float32)
    told = model.answer(PROMPT, np.concatenate([speech, pause, speech]), max_new_tokens=8)
    assert len(told.splitlines()) == 2


def test_a_long_sound_beside_others_is_an_error(model):
    with pytest.raises(qwen_audio.QwenAudioError, match="beside others"):
        model.answer(PROMPT, SPEECH, np.zeros(16_000 * 31, np.float32))


def test_what_cannot_be_read_is_an_error_with_its_fix(model):
    with pytest.raises(qwen_audio.QwenAudioError) as caught:
        model.answer(PROMPT, "nowhere.flac")
    assert (caught.value.kind, caught.value.fix) == ("missing", "check the path")


SPEECH_STEPS = load_waveform(SPEECH) * 32_768


@pytest.mark.parametrize(
    ("sound", "told"),
    [
        (SPEECH_STEPS.astype(np.int16), "int16"),
        (SPEECH_STEPS, "32768"),
        (np.stack([SPEECH_STEPS, SPEECH_STEPS]) / 32_768, r"\[2, "),
        (np.full(16_000, np.nan, np.float32), "finite"),
        ([str(SPEECH), str(SPEECH)], "one after the other"),
        ((load_waveform(SPEECH), 16_000), "tuple"),
        ("", "'': no such file"),
    ],
    ids=["int16", "16-bit steps", "channels", "not finite", "list", "with its rate", "no name"],
)
def test_what_is_no_waveform_is_an_error_and_not_answered(model, sound, told):
    with pytest.raises(qwen_audio.QwenAudioError, match=told):
        model.answer(PROMPT, sound)


@pytest.mark.parametrize(("prompt", "longest"), [(" ", 8), (PROMPT, 0)])
def test_nothing_asked_and_nothing_wanted_are_errors(model, prompt, longest):
    with pytest.raises(qwen_audio.QwenAudioError):
        model.answer(prompt, SPEECH, max_new_tokens=longest)


def test_a_second_answer_in_the_middle_of_a_first_is_an_error_and_harms_neither(model, said):
    stream = model.stream(PROMPT, SPEECH)
    begun = next(stream) + next(stream)
    with pytest.raises(qwen_audio.QwenAudioError, match="in the middle of another answer"):
        model.answer(PROMPT, GOLDEN / "nano" / "woman.flac")
    assert begun + "".join(stream) == said


@pytest.mark.slow
def test_threads_wait_for_each_other(model, said):
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(lambda _: model.answer(PROMPT, SPEECH), range(3))) == {said}


def test_choices_are_judged_in_the_models_own_words_and_their_shares_are_one(model):
    clips = qwen_audio.listen([GOLDEN / "nano" / "woman.flac"], model)
    ids = qwen_audio.prompt_ids("Is the speaker a man or a woman?", clips, model)
    found = qwen_audio.choose(ids, clips, model, ["man", "woman"])
    said = "".join(qwen_audio.answer(ids, clips, model))
    assert max(found, key=found.get) in said.rstrip(".").split()
    assert sum(np.exp(list(found.values()))) == pytest.approx(1.0)
