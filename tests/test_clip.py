"""--clip hears only some parts of a recording, in its own times; each word of an answer says how sure the model was."""

import numpy as np
import pytest
import soundfile

from cli.inputs.listing import Group
from cli.options import parse_arguments
from cli.output.answer import Answer, Audio, Window, Word
from cli.run.job import Job, Query
from cli.run.questions import Question
from cli.run.segments import segments
from errors import AudioError, UsageError


@pytest.fixture
def sound(tmp_path):
    """50 s, in which each second has a level of its own: its number in steps of 100."""
    steps = np.repeat(np.arange(50, dtype=np.int16) * 100, 16_000)
    soundfile.write(tmp_path / "a.wav", steps, 16_000)
    return str(tmp_path / "a.wav")


def heard(sound, text, notes=None):
    """(start, end, levels of its seconds) of each window."""
    options = parse_arguments([sound, "--clip", text])
    found = segments([sound], [] if notes is None else notes, long="windows", longest=30, clips=options.clips)
    return [(one.start, one.end, sorted(set(np.rint(one.waveforms[0] * 327.68).astype(int)))) for one in found]


def test_only_the_parts_are_heard_and_their_times_are_the_recordings(sound):
    assert heard(sound, "2-4,10.5-12") == [(2, 4, [2, 3]), (10.5, 12, [10, 11])]


def test_a_part_without_an_end_goes_to_the_recordings(sound):
    assert heard(sound, "48-") == [(48, 50, [48, 49])]


def test_parts_that_meet_are_parts_still(sound):
    assert [(start, end) for start, end, _ in heard(sound, "1-2,2-3")] == [(1, 2), (2, 3)]


def test_a_part_over_30_s_is_cut_into_windows(sound):
    found = heard(sound, "5-45")
    assert (found[0][0], found[-1][1], len(found)) == (5, 45, 2)
    assert found[0][1] == found[1][0]


def test_a_part_behind_the_end_is_told(sound):
    notes = []
    assert len(heard(sound, "1-2,60-61", notes)) == 1
    assert "before --clip 60" in notes[0]
    with pytest.raises(AudioError, match="before --clip 60"):
        heard(sound, "60-61")


@pytest.mark.parametrize(
    ("text", "heard_parts", "told"),
    [
        ("0-1,60-61,70-80", [(0, 1)], ["ends at 50.0 s, before --clip 60-61, 70-80 begins"]),
        ("0-1,49.99-", [(0, 1)], ["of --clip 49.99- less than 0.03 s is in it"]),
        ("0-1,49.99-60,70-", [(0, 1)], ["before --clip 70- begins", "of --clip 49.99-60 less than 0.03 s"]),
        ("49-90", [(49, 50)], ["ends at 50.0 s, before --clip 49-90 ends"]),
        ("0-1,50-60", [(0, 1)], ["before --clip 50-60 begins"]),
        ("49-50.05", [(49, 50)], []),
        ("49-", [(49, 50)], []),
    ],
)
def test_what_of_the_parts_is_not_in_the_recording_is_told_and_the_rest_is_heard(sound, text, heard_parts, told):
    notes = []
    assert [(start, end) for start, end, _ in heard(sound, text, notes)] == heard_parts
    assert len(notes) == len(told)
    assert all(words in note for words, note in zip(told, notes, strict=True))


def test_a_recording_of_which_no_part_can_be_heard_is_a_failure_that_tells_all(sound):
    with pytest.raises(AudioError, match=r"before --clip 60- begins; of --clip 49\.99-55 less than 0\.03 s") as caught:
        heard(sound, "49.99-55,60-")
    assert caught.value.kind == "too short"


def test_the_record_has_the_length_of_the_recording_and_no_warning_of_what_was_not_asked_for(sound):
    clips = parse_arguments([sound, "--clip", "2-4,10-11"]).clips
    job = Job(Group((sound,)), [Question("", 1)], [Answer([sound], "")])
    for segment in segments([sound], job.notes, long="windows", longest=30, clips=clips):
        job.hear(segment)
    assert job.answers[0].audio == [Audio(sound, 50.0, 11.0)]
    assert (job.seconds, list(job.warnings()), job.notes) == (3.0, [], [])


def test_parts_of_several_sounds_in_one_prompt_are_refused(sound):
    with pytest.raises(UsageError, match="--each"):
        list(segments([sound, sound], [], long="windows", clips=[(0, 1)]))


@pytest.mark.parametrize(
    "text", ["", ",", "1", "2-1", "1-1", "5-5.01", "0-2,1-3", "1-,2-3", "a-b", "-1-2", "0-nan", "9" * 400 + "-"]
)
def test_a_part_that_cannot_be_meant_is_refused(text):
    with pytest.raises(UsageError, match="--clip"):
        parse_arguments(["a.wav", f"--clip={text}"])


@pytest.mark.parametrize("flag", ["--clip=0-1", "--window=9"])
@pytest.mark.parametrize("other", ["--chat", "--long=first"])
def test_parts_do_not_go_with_what_hears_otherwise(flag, other):
    with pytest.raises(UsageError, match=flag.split("=")[0]):
        parse_arguments(["a.wav", flag, other])


def test_each_word_has_the_mean_of_the_log_probabilities_of_its_tokens():
    window = Window(0, 1, text="<|0.00|>mister<|0.86|>quilter<|1.20|>")
    query = Query(Job(Group(("a",)), [], []), Question("", 1), Answer([], ""), window)
    pieces = ["<|0.00|>", "mis", "ter", "<|0.86|>", "quilter", "<|1.20|>"]
    query.ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    query.log_probs = [-9.0, -1.0, -2.0, -9.0, -0.5, -9.0]
    words = [Word("mister", 0, 0.86), Word("quilter", 0.86, 1.2), Word("absent", 1.2, 1.3)]
    assert [word.log_prob for word in query.with_log_probs(words)] == [-1.5, -0.5, None]
