"""Training's own parts: the vocabulary, the texts, the batches, the measures. Some need torch."""

import itertools
import json
import lzma
import random
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.nano.train import whisper_pieces
from models.nano.train.recordings import spoken, training
from models.nano.train.recordings import test_ids as listed
from models.nano.train.texts import book_sentences, said
from tests.conftest import GOLDEN
from tokenizer.tokenizer import Tokenizer

TEXTS = ['The person says: "the cat sat on the mat".', "the language is German."]
PIECES = (b" t", b"he", b" the", b"cat", b" cat", b" s", b"at")


@pytest.fixture
def vocabulary(tmp_path):
    whisper_pieces.write_ranks([*(bytes([byte]) for byte in range(256)), *PIECES], tmp_path / "qwen.tiktoken")
    return tmp_path / "qwen.tiktoken"


def test_a_vocabulary_out_of_whispers_pieces_keeps_the_bytes_and_what_is_used(tmp_path, monkeypatch):
    theirs = [bytes([byte]) for byte in reversed(range(256))] + [b" t", b"he", b" the", b"xq", b"cat"]
    monkeypatch.setattr(whisper_pieces, "whisper_pieces", lambda: theirs)
    monkeypatch.setattr(whisper_pieces, "texts_of", lambda _: ["the cat the cat", "cat a"])
    whisper_pieces.main([str(tmp_path), str(tmp_path / "qwen.tiktoken"), "--size", "258"])
    made = Tokenizer(tmp_path / "qwen.tiktoken")
    assert [made.token_bytes(token) for token in range(made.endoftext)] == [*sorted(theirs[:256]), b" the", b"cat"]
    ids = whisper_pieces.whisper_ids(made)
    assert [theirs[number] for number in ids] == [made.token_bytes(token) for token in range(258)]


@pytest.mark.parametrize("text", [*TEXTS, "unseen wörds 你好", "<|en|> is a tag"])
def test_every_text_survives_the_vocabulary(vocabulary, text):
    tokenizer = Tokenizer(vocabulary)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_special_tokens_stand_behind_the_pieces(vocabulary):
    assert Tokenizer(vocabulary).vocab_size == 256 + len(PIECES) + 3522


def test_what_is_said_has_no_marks():
    assert spoken("It\u2019s TEN, well-known. ") == "it's ten well known"
    assert said("Mr. Darcy, and Mrs. Long!") == "mister darcy and missus long"


def test_sentences_of_a_book_are_whole_and_plain():
    book = """*** START OF THE BOOK ***

CHAPTER I.

Mr. Hall was \u201cglad\u201d to see 3 men. He said\u2014slowly\u2014that it was late! "Who is there?" asked he.

*** END OF THE BOOK ***"""
    assert list(book_sentences(book)) == ["He said, slowly, that it was late!", "Who is there?"]


def test_the_test_list_names_no_speaker_of_training():
    lists = listed()
    assert len(lists["librispeech"]) == 40
    assert {len(set(ids)) == len(ids) for ids in lists.values()} == {True}
    row = {"id": lists["studio_man"][0]}
    assert training([row, {"id": "new"}]) == [{"id": "new"}]


def test_eight_bits_keep_a_row_within_half_a_step():
    pytest.importorskip("torch")
    from models.nano.train.eight_bits import eight_bit

    values = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    stored = eight_bit("w", values)
    scales = stored["w.scales"]
    assert stored["w"].dtype == np.int8
    assert np.abs(stored["w"] * scales[:, None] - values).max() <= 0.51 * scales.max()


@pytest.fixture
def encoder(vocabulary):
    pytest.importorskip("torch")
    from models.nano.train.batches import CachedTokenizer, Encoder

    return Encoder(CachedTokenizer(vocabulary))


def clip(folder, tokens, **labels):
    from models.nano.train.corpus import Clip

    np.save(folder / "shard.npy", np.ones((tokens, 512), np.float16))
    return Clip(folder / "shard.npy", 0, tokens, labels)


def test_a_batch_has_its_clips_where_the_prompt_has_them(encoder, tmp_path):
    from models.nano.train.answers import Piece
    from models.nano.train.examples import Example

    heard = clip(tmp_path, 20, text="the cat", language="en")
    example = Example("transcribe_base", (heard,), (("", (Piece("the cat"),)),), "<|en|><|transcribe|>")
    encoded = encoder.encode(example)
    batch = encoder.batch([encoded], np.random.default_rng(0), augment=False)
    tokenizer = encoder.tokenizer
    assert batch.ids[0, 0] == tokenizer.audio_start
    assert batch.places.tolist() == list(range(1, 21))
    assert [int(place) for place in batch.ends] == [0, 21]
    answer = batch.targets[0][batch.weights[0] > 0].tolist()
    assert tokenizer.decode(answer) == "the cat<|endoftext|>"


def test_what_a_spelled_word_goes_on_with_and_ends_at_counts_more(encoder, tmp_path):
    from models.nano.train import batches
    from models.nano.train.answers import Piece
    from models.nano.train.examples import Example

    pieces = [b" the", b" deb", b"tor", b"s", b" side", b" is"]
    assert batches.spelled(pieces) == [False, False, True, True, True, False]
    assert batches.spelled([b"He", b" saw", b".", b"then", b"\xe4\xbd", b"\xa0"]) == [False] * 6
    heard = clip(tmp_path, 20, text="the cats", language="en")
    said, weight = (Piece('It says: "'), Piece("the cats", 1.5), Piece('".')), batches.SPELLED_WEIGHT
    read, other = (encoder.encode(Example(task, (heard,), (("?", said),))) for task in ("transcribe", "gender"))
    assert read.ids == other.ids
    letters = [encoder.tokenizer.token_bytes(token) for token in read.ids[read.said : -1]]
    ratios = [
        one / plain for one, plain in zip(read.weights[read.said : -1], other.weights[read.said : -1], strict=True)
    ]
    assert ratios == [weight if on else 1 for on in batches.spelled(letters)]
    assert {1, weight} == set(ratios)
    assert read.weights[: read.said] == other.weights[: read.said]


def test_only_what_is_written_down_is_misheard_and_what_is_asked_for_stays(encoder, tmp_path):
    from models.nano.train.answers import Piece
    from models.nano.train.examples import Example

    words = "the cat sat on the mat " * 20
    heard = clip(tmp_path, 20, text=words.strip(), language="en")
    example = Example("transcribe_base", (heard,), (("", (Piece(words.strip()),)),), "<|en|><|transcribe|>")
    encoded = encoder.encode(example)
    rng = np.random.default_rng(1)
    exact, *noisy = (encoder.batch([encoded], rng, augment=augment) for augment in (False, True, True, True))
    changed = [(batch.ids != exact.ids)[0] for batch in noisy]
    assert all((batch.targets == exact.targets).all() for batch in noisy)
    assert not any(change[: encoded.said].any() for change in changed)
    assert 0 < sum(int(change.sum()) for change in changed) < 3 * 0.25 * len(encoded.ids)


def test_behind_a_phrase_that_is_read_again_the_transcript_goes_on(encoder, tmp_path, monkeypatch):
    from models.nano.train import batches
    from models.nano.train.answers import Piece
    from models.nano.train.examples import Example

    heard = clip(tmp_path, 20, text="the cat sat", language="en")
    asked = Example("transcribe", (heard,), (("What?", tuple(map(Piece, ('He says: "', "the cat sat", '".')))),))
    encoded = encoder.encode(asked)
    first, last, _ = encoded.read
    monkeypatch.setattr(batches, "STUTTERED", 1.0)
    for seed in range(20):
        changed = batches.stuttered(encoded, random.Random(seed), 300)
        more = len(changed.ids) - len(encoded.ids)
        place = next(
            at
            for at in range(first, last + 1)
            if changed.ids[at + more :] == encoded.ids[at:] and changed.weights[at : at + more] == [0.0] * more
        )
        assert more > 0
        assert changed.ids[:place] == encoded.ids[:place]
        assert changed.weights[place + more] == batches.STUTTER_WEIGHT
        assert sum(changed.weights) == pytest.approx(sum(encoded.weights) - encoded.weights[place] + 2.0)
        assert changed.read is None, "Whisper would go round in circles itself"
    monkeypatch.setattr(batches, "STUTTERED", 0.0)
    assert batches.stuttered(encoded, random.Random(0), 300) is encoded


def test_a_batch_tells_where_its_transcripts_are(encoder, tmp_path):
    from models.nano.train.answers import Piece
    from models.nano.train.examples import Example
    from models.nano.train.wordings import TRANSCRIBE_TAGS

    heard = clip(tmp_path, 20, text="the cat", language="en")
    framed = (Piece('The person says: "'), Piece("The cat."), Piece('".'))
    examples = [
        Example("transcribe_base", (heard,), (("", (Piece("the cat"),)),), TRANSCRIBE_TAGS),
        Example("gender", (heard, heard), (("Who?", framed),)),
        Example("transcribe", (heard,), (("What is said?", framed),)),
        Example("no_speech", (heard,), (("", ()),), TRANSCRIBE_TAGS),
    ]
    batch = encoder.batch([encoder.encode(one) for one in examples], np.random.default_rng(0), augment=True)
    tokenizer, read = encoder.tokenizer, batch.read.tolist()
    assert [row[:2] for row in read] == [[0, 0], [2, 3]]  # row and clip
    assert [bool(row[4]) for row in read] == [True, False]  # without marks
    texts = [tokenizer.decode(batch.targets[row, first - 1 : last - 1].tolist()) for row, _, first, last, _ in read]
    assert texts[0] == "the cat"
    assert texts[1] in {"The cat.", "The cat", "he cat", "he cat."}  # a byte may go with the quote beside it
    assert batch.clean.eq(1).all()
    assert not batch.features.eq(1).all()  # masked


def test_a_splice_has_the_sounds_and_times_of_its_words_and_no_others(tmp_path):
    from models.nano.train.drawing import Balanced
    from models.nano.train.splices import spliced

    spoken_words = {"one": 10, "two": 20, "three": 30}  # what sounds in the middle of a word -> its features' value
    words = [(0.2, 0.6), (1.0, 1.4), (1.8, 2.4)]
    one = clip(tmp_path, 65, text="one two three", language="en", words=words)
    timed = Balanced([one], lambda _: True, lambda _: "all")
    features = np.zeros((65, 512), np.float16)
    for value, (start, end) in zip(spoken_words.values(), words, strict=True):
        features[int((start + end) / 2 / 0.04)] = value
    np.save(one.shard, features)
    for seed in range(40):
        found = spliced(random.Random(seed), timed)
        heard = found.features[:, 0]
        said = found.get("text").split()
        assert len(heard) == found.tokens
        assert [int(value) for value in heard[heard > 0]] == [spoken_words[word] for word in said]
        for word, (start, end) in zip(said, found.get("words"), strict=True):
            assert spoken_words[word] in heard[round(start / 0.04) : round(end / 0.04) + 1]


def test_what_is_scattered_has_sounds_of_the_clip_in_another_order(tmp_path):
    from models.nano.train.splices import scattered

    one = clip(tmp_path, 60, text="one two three", language="en", gender="woman")
    np.save(one.shard, np.tile(np.arange(60, dtype=np.float16)[:, None], (1, 512)))
    swaps = 0
    for seed in range(20):
        found = scattered(one, random.Random(seed))
        heard = found.features[:, 0].tolist()
        assert (found.get("gender"), found.get("text"), found.tokens) == ("woman", None, len(heard))
        assert len(set(heard)) == len(heard) >= 0.3 * 60
        swaps += sum(later < earlier for earlier, later in itertools.pairwise(heard))
    assert swaps > 20


@pytest.mark.parametrize(
    ("written", "kept"), [("One, two; three.", {"One, two", "One, two; three."}), ("1, 2; 3. 4", {None})]
)
def test_a_clip_that_is_cut_off_has_its_first_words_as_they_are_written(written, kept, tmp_path):
    from models.nano.train.splices import begun

    words = [(0.2, 0.6), (1.0, 1.4), (1.8, 2.4)]
    one = clip(tmp_path, 65, text="one two three", language="en", words=words, written=written)
    found = [begun(one, random.Random(seed)) for seed in range(20)]
    assert {(cut.get("text"), cut.tokens, len(cut.features)) for cut in found} == {
        ("one two", 35, 35),
        ("one two three", 60, 60),
    }
    assert {cut.get("written") for cut in found} == kept


def test_a_passage_has_its_sentences_in_order_and_none_of_a_speaker_twice(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from models.nano.train import passages

    monkeypatch.setattr(passages, "BY_TELEPHONE", 0)
    monkeypatch.setattr(passages, "ELSEWHERE", 0)
    monkeypatch.setattr(passages, "floor", lambda _: np.float32(0))
    rows = []
    for number, word in enumerate(("one", "two", "three", "four", "five", "six")):
        path = tmp_path / f"{word}.flac"
        soundfile.write(path, np.full(20_000 + 1000 * number, 0.3, np.float32), 16_000)
        about = {"source": "arctic", "speaker": "a" if number < 4 else f"b{number}", "language": "en"}
        rows.append({"audio": str(path), "id": word, "text": word} | about)
    rows.append(rows[0] | {"text": "uno", "language": "es"})
    length = {20_000 + 1000 * number: row["text"] for number, row in enumerate(rows[:-1])}
    speakers = passages.by_speaker(rows)
    lengths = []
    for seed in range(20):
        labels, sound = passages.passage(speakers, {"two": "Two,"}, random.Random(seed))
        runs = [len(list(run)) for loud, run in itertools.groupby(sound > 0) if loud]
        said = [length[run] for run in runs]
        assert said == labels["text"].split()
        assert labels["written"] == " ".join("Two," if word == "two" else f"{word.capitalize()}." for word in said)
        lengths.append(len(sound) / 16_000)
    assert max(lengths) <= 30
    assert max(lengths) > 15
    drawn = passages.sentences({"arctic": {"a": rows[:4]}}, random.Random(3))
    assert {row["text"] for row, _ in itertools.islice(drawn, 4)} == {"one", "two", "three", "four"}


def test_groups_of_several_levels_are_drawn_evenly_at_each():
    from models.nano.train.drawing import Balanced

    voices = [("man", "a")] * 9 + [("man", "b")] + [("woman", "c")]
    clips = [labelled(gender=gender, speaker=speaker) for gender, speaker in voices]
    drawn = Balanced(clips, lambda _: True, lambda one: (one.get("gender"), one.get("speaker")))
    rng = random.Random(0)
    speakers = [drawn.draw(rng).get("speaker") for _ in range(4000)]
    for speaker, share in {"a": 0.25, "b": 0.25, "c": 0.5}.items():
        assert abs(speakers.count(speaker) / 4000 - share) < 0.04


def test_of_recordings_with_children_and_adults_both_are_drawn_alike_often(tmp_path):
    from models.nano.train.drawing import Balanced, aged_voice

    people = [("speechocean762", "a", 8)] + [("speechocean762", f"b{n}", 30) for n in range(4)]
    clips = [clip(tmp_path, 20, source=source, speaker=who, age=years) for source, who, years in people]
    clips += [clip(tmp_path, 20, source="librispeech", speaker=f"c{n}") for n in range(20)]
    drawn = Balanced(clips, aged_voice, aged_voice)
    rng = random.Random(0)
    ages = [drawn.draw(rng).get("age") for _ in range(2000)]
    assert 0.45 < sum(age == 8 for age in ages) / sum(age is not None for age in ages) < 0.55


def test_english_without_a_weight_is_refused(tmp_path):
    from models.nano.train.drawing import source

    assert source(clip(tmp_path, 20, source="arctic")) == "arctic"
    with pytest.raises(KeyError, match="a weight in SOURCES"):
        source(clip(tmp_path, 20, source="unheard"))


def labelled(**labels):
    from models.nano.train.corpus import Clip

    return Clip(Path("none.npy"), 0, 100, {"source": "librispeech", "language": "en"} | labels)


LABELLED = {  # task -> labels of a clip that can be asked, the answer
    "language": ({"language": "de"}, "The language is German."),
    "gender": ({"gender": "woman"}, "The speaker is a woman."),
    "age": ({"age": 9}, "The speaker is a child."),
    "emotion": ({"emotion": "sad"}, "The speaker sounds sad."),
    "speakers": ({"speakers": 2}, "There are two speakers."),
    "event": ({"sound": "rain"}, "This is the sound of rain."),
    "events": ({"events": ["bell", "coins"]}, "I hear a bell and coins."),
    "background": ({"background": "engine"}, "I hear an engine."),
    "instrument": ({"instrument": "harp"}, "The instrument is the harp."),
    "note": ({"pitch": 60}, "The note is C4 (<|midi_pitch_60|>)."),
    "note_tags": (
        {"pitch": 61, "velocity": 75, "instrument": "flute"},
        "<|pitch|><|midi_pitch_61|><|velocity|><|midi_velocity_75|><|instrument|>flute",
    ),
    "loudness": ({"velocity": 127}, "The note is loud."),
    "tempo": ({"tempo": "slow"}, "The music is slow."),
    "caption": (
        {"text": "good day", "gender": "man", "background": "rain"},
        'A man says "good day" while rain falls.',
    ),
}


@pytest.mark.parametrize("task", LABELLED)
def test_a_labelled_clip_is_asked_and_answered(task, tmp_path):
    from models.nano.train.answers import TASKS
    from models.nano.train.examples import Source

    labels, wanted = LABELLED[task]
    shard = clip(tmp_path, 100).shard
    source = Source([replace(labelled(**labels), shard=shard)], {task: 1.0})
    example = source.example(random.Random(0))
    assert ["".join(piece.text for piece in answer) for _, answer in example.turns] == [wanted]
    assert set(TASKS) == set(LABELLED)


def test_clips_of_speech_are_never_taken_for_silent_ones():
    from models.nano.train import drawing

    assert drawing.wordless(labelled(text="hello")) is None
    assert drawing.wordless(labelled(sound="laughter")) is None
    assert drawing.wordless(labelled(sound="rain")) == "rain"
    assert drawing.wordless(labelled(noise="white")) == "noise"
    assert drawing.wordless(labelled(instrument="flute")) == "music"


@pytest.mark.parametrize(
    ("text", "written", "certainty", "kept"),
    [
        ("may i go", "May I go?", -2.0, True),
        ("may i go", "May I come?", -0.1, False),
        (None, "Make me a coffee.", -0.1, True),
        (None, "Make me a coffee.", -0.9, False),
        (None, "A 12 ounce coffee.", -0.1, False),
        (None, "Thank you.", -0.1, False),  # what Whisper says about noise
    ],
)
def test_whispers_text_stands_where_it_says_the_same_or_is_sure(text, written, certainty, kept):
    from models.nano.train.whisper_labels import usable

    assert usable({"text": text}, written, certainty) == kept


def test_what_is_read_in_a_test_is_no_text_of_training(tmp_path):
    from models.nano.train.texts import sentences

    (tmp_path / "a.lines").write_text(
        "CHAPTER NINETY NINE THE LAW WE HAVE SEEN HOW QUIETLY\nCHAPTER NINETY NINE THE LAW\n"
    )
    (tmp_path / "b.txt").write_text("The law we have seen how quietly. The law we have not seen.\n")
    assert [said for said, _ in sentences(tmp_path)] == ["the law we have not seen", "chapter ninety nine the law"]


def test_texts_that_whisper_wrote_belong_to_their_recordings(tmp_path):
    from models.nano.train.corpus import load

    rows = [{"id": "a", "text": "may i go"}, {"id": "b"}, {"id": "c", "text": "no"}]
    lines = [json.dumps(row | {"first": 9 * place, "tokens": 9}) for place, row in enumerate(rows)]
    (tmp_path / "real-0-000.jsonl").write_text("\n".join(lines))
    texts = [{"id": "a", "written": "May I go?"}, {"id": "b", "written": "Make me a coffee."}, {"id": "c"}]
    (tmp_path / "written.jsonl").write_text("\n".join(map(json.dumps, texts)))
    found = {clip.get("id"): (clip.get("text"), clip.get("written")) for clip in load([tmp_path])}
    assert found == {
        "a": ("may i go", "May I go?"),
        "b": ("make me a coffee", "Make me a coffee."),
        "c": ("no", None),
    }


def test_words_that_last_too_long_are_no_times():
    from models.nano.train.corpus import plausible

    assert plausible("good day", [[0.1, 0.5], [0.5, 0.9]])
    assert not plausible("good day", [[0.1, 0.5], [0.5, 2.9]])


def snapshot(folder, files):
    """A repository with these files: path -> text, or a sound to copy."""
    from models.nano.train.voices import Snapshot

    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.read_bytes() if isinstance(content, Path) else content.encode())
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "."]):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
    return Snapshot(folder)


def test_a_snapshot_gives_no_clip_of_a_speaker_held_out(tmp_path):
    pytest.importorskip("soundfile")
    from models.nano.train import voices

    names = ("8226-1-0000.flac", "19-1-0000.flac", "1-1.trans.txt")
    files = {f"clips/{name}": "8226-1-0000 ONE\n19-1-0000 TWO\n" for name in names}
    one = snapshot(tmp_path / "owner+name" / "repo", files)
    found = list(voices.librispeech(one, "clips/", {"libri-19"}, []))
    assert [(row["name"], row["text"]) for row, _ in found] == [("librispeech_more/8226-1-0000", "ONE")]
    assert found[0][0]["source"].startswith("github.com/owner/name@")


@pytest.fixture
def shared(tmp_path):
    """A snapshot of Common Voice: a man, and a woman whose text has a digit."""
    table = "client_id,path,sentence,gender\na,1.wav,It\u2019s late.,male\nb,2.wav,It is 9.,female\nc,3.wav,Good.,\n"
    sounds = {f"data/{number}.wav": GOLDEN / "nano" / "speech.flac" for number in (1, 2, 3)}
    return snapshot(tmp_path / "owner+name" / "repo", sounds | {"validated.csv": table})


def of_common_voice(out, one, held_out=(), there=()):
    from models.nano.train.voices_many import rows
    from models.nano.train.voices_sets import SETS

    (known,) = (known for known in SETS if known.source == "common_voice")
    return list(rows(out, known, one, held_out=set(held_out), there=set(there), listen=None))


def test_a_set_of_a_snapshot_gives_recordings_of_that_source(shared, tmp_path):
    pytest.importorskip("soundfile")
    from models.nano.train.recordings import recordings
    from models.nano.train.voices import add_line

    for row in of_common_voice(tmp_path, shared):
        add_line(tmp_path, row)
    first, second = recordings(tmp_path)
    assert first["id"] == "common_voice/1.flac"
    assert (tmp_path / first["id"]).is_file()
    wanted = {"source": "common_voice", "speaker": "cv-a", "gender": "man", "language": "en"}
    wanted |= {"text": "it's late", "written": "It\u2019s late."}
    assert {name: first[name] for name in wanted} == wanted
    assert second["text"] == "good"
    assert "gender" not in second


def test_a_set_of_a_snapshot_gives_nobody_who_is_held_out_and_nothing_twice(shared, tmp_path):
    pytest.importorskip("soundfile")
    assert of_common_voice(tmp_path, shared, held_out=["cv-a"], there=["common_voice/3.flac"]) == []


@pytest.mark.parametrize(
    ("text", "alike", "heard", "certainty", "kept"),
    [
        ("Please call Stella.", 0.0, "", -9.0, "Please call Stella."),
        ("Please call Stella.", 0.6, "Please call Stellar!", -0.9, "Please call Stella."),
        ("Please call Stella.", 0.6, "It was a pleasure.", -0.1, None),
        ("a n n", 0.7, "Ann", -0.1, None),  # not spelled
        (None, 0.6, "I get the bus.", -0.1, "I get the bus."),
        (None, 0.6, "I get the bus.", -0.9, None),
    ],
)
def test_a_text_in_doubt_stands_where_whisper_hears_it(text, alike, heard, certainty, kept):
    from models.nano.train.voices_many import text_of
    from models.nano.train.voices_sets import Reading

    reading = Reading("a", "b", bytes, text, alike=alike)
    assert text_of(reading, np.zeros(9, np.float32), lambda _: (heard, certainty)) == kept


def test_speakers_of_other_languages_are_kept_once_and_beeps_are_not(tmp_path):
    from models.nano.train import voices_foreign

    speaker = voices_foreign.Speaker("a package", "it", "it", "carlo", "male", "CC BY 3.0")
    folder = tmp_path / "packages" / voices_foreign.SOUNDS / "it"
    folder.mkdir(parents=True)
    for name, seconds in {"queue": 2, "beep": 2, "digit": 0.5}.items():
        soundfile.write(folder / f"{name}.wav", np.full(int(16_000 * seconds), 0.1), 16_000)
    found = [
        voices_foreign.keep(tmp_path / "out", speaker, voices_foreign.prompts(tmp_path / "packages", speaker), "here")
        for _ in range(2)
    ]
    (row,) = map(json.loads, (tmp_path / "out" / "meta.jsonl").read_text().splitlines())
    assert found == [2.0, 0.0]
    assert row["audio"] == "foreign_it/carlo-queue.flac"
    labels = {"gender": "male", "emotion": None}
    assert (row["language"], row["speaker"], row["labels"], row["licence"]) == ("it", "carlo", labels, "CC BY 3.0")


def test_each_sound_of_a_set_may_be_of_another_person_in_a_mood(tmp_path):
    from models.nano.train import voices_foreign

    speaker = voices_foreign.Speaker("a/set", "", "ja", "people", None, "CC0", each=True, emotion="sad")
    sounds = [(name, np.full(16_000, 0.1, np.float32)) for name in ("a", "b")]
    voices_foreign.keep(tmp_path, speaker, iter(sounds), "here")
    rows = list(map(json.loads, (tmp_path / "meta.jsonl").read_text().splitlines()))
    assert [row["speaker"] for row in rows] == ["people-a", "people-b"]
    assert {row["labels"]["emotion"] for row in rows} == {"sad"}
    assert len({row["audio"] for row in rows}) == 2


def test_sentences_of_eight_languages_are_read_in_many_voices(tmp_path):
    pytest.importorskip("torch")
    import bz2

    from models.nano.train.voices_made_foreign import SENTENCES, readings, sentences

    korean = "\uac00\ub098\ub2e4 \ub77c\ub9c8 \ubc14\uc0ac\uc544 \uc790\ucc28"
    texts = {
        "it": " Questo programma mostra le\n immagini del disco. Ed ecco X.\n .\n Altro che non finisce",
        "ko": f" {korean}.\n abc {korean}.",
        "ja": " \u6f22\u5b57\u3053\u308c\u306f\u3072\u3089\u304c\u306a\u3067\u3059\u3002",
    }
    for language, text in texts.items():
        lines = f"Package: a\nDescription-md5: 0\nDescription-{language}: b\n{text}\n"
        (tmp_path / f"Translation-{language}.bz2").write_bytes(bz2.compress(lines.encode()))
    assert sentences(tmp_path, "it") == ["Questo programma mostra le immagini del disco"]
    assert sentences(tmp_path, "ko") == [korean]
    assert sentences(tmp_path, "ja") == ["\u3053\u308c\u306f\u3072\u3089\u304c\u306a\u3067\u3059"]
    assert len(SENTENCES) == 8
    read = list(readings([f"{number}" for number in range(9)], "it", 8))
    assert [text for _, _, text in read] == [f"{number}" for number in range(8)]
    assert len({voice for voice, _, _ in read}) > 4
    assert {command[0] for _, command, _ in read} == {"pico2wave", "espeak-ng"}
    assert all("{wav}" in command and text in command for _, command, text in read)


def test_single_words_of_a_repository_are_joined(tmp_path):
    from models.nano.train import voices, voices_foreign

    repo = tmp_path / "a+words" / "repo"
    repo.mkdir(parents=True)
    for word in ("\u3042", "\u3044", "\u3046"):
        soundfile.write(repo / f"{word}.wav", np.full(16_000, 0.1), 16_000)
    git = ["git", "-C", str(repo), "-c", "user.name=a", "-c", "user.email=a@b"]
    for line in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "words"]):
        subprocess.run([*git, *line], check=True)
    speaker = voices_foreign.Speaker("a/words", r".*\.wav", "ja", "a", None, "CC0", joined=2.0)
    ((name, waveform),) = voices_foreign.clips(voices.Snapshot(repo), speaker)
    assert (name, len(waveform)) == ("00001", round(2.15 * 16_000))


def test_a_variant_has_the_times_of_its_recording_at_its_speed():
    pytest.importorskip("torch")
    from models.nano.train.align import at_speed, shard_times

    as_it_is, faster = labelled(id="a", text="good day"), labelled(id="a", text="good day", variant=1, speed=2.0)
    aligned = shard_times([as_it_is, labelled(sound="rain")], {}, lambda _: [(0.2, 0.6), (0.6, 1.0)])
    assert aligned == {0: [(0.2, 0.6), (0.6, 1.0)]}
    assert shard_times([faster], {"a": aligned[0]}, lambda _: None) == {0: [(0.1, 0.3), (0.3, 0.5)]}
    assert at_speed([(0.0, 9.0)], faster) is None


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A folder of recordings with a test list of its own."""
    from models.nano.train import lists

    rows = [
        {"audio": "speech.flac", "text": "ROOM ONE", "language": "en", "labels": {"gender": "male"}},
        {"audio": "sitar.flac", "labels": {"sound": "rain"}},
    ]
    for row in rows:
        shutil.copy(GOLDEN / "nano" / row["audio"], tmp_path)
    (tmp_path / "meta.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setattr(lists, "test_ids", lambda: {"librispeech": ["speech.flac"], "sounds": ["sitar.flac"]})
    return tmp_path


def test_an_answer_is_right_only_as_a_whole(recorded):
    pytest.importorskip("jiwer", reason="requirements-eval.txt is not installed")
    from cli.output.answer import Answer
    from cli.score.scorer import Scorer
    from models.nano.train.lists import clips, labels

    said = {
        "librispeech gender": "The speaker is a woman.",
        "librispeech language": "the language is english",
        "sounds event": "This is the sound of rainstick.",
    }
    scorer = Scorer(["accuracy"])
    for row in labels(clips(recorded), recorded):
        scorer.add(Answer([], "", text=said[row["source"]], references=(row["text"],), source=row["source"]))
    found = json.loads(scorer.as_json())["metrics"]["accuracy"]["by_source"]
    assert {name: one["value"] for name, one in found.items()} == {
        "librispeech gender": 0,
        "librispeech language": 1,
        "sounds event": 0,
    }


def test_a_telephone_lets_a_band_through_in_noise(recorded):
    from audio_encoder.waveform import load_waveform
    from models.nano.train.lists import clips, telephone

    (row,) = telephone(clips(recorded), recorded / "out")
    heard, clean = (load_waveform(path) for path in (row["audio"], recorded / "speech.flac"))
    hertz = np.fft.rfftfreq(len(clean), 1 / 16_000)
    low, band = hertz < 280, (hertz > 320) & (hertz < 3300)
    before, after = (np.abs(np.fft.rfft(one)) ** 2 for one in (clean, heard))
    assert after[low].sum() < 0.1 * before[low].sum()
    assert after[band].sum() == pytest.approx(before[band].sum(), rel=0.3)
    noise = after[hertz > 3500].sum() / (hertz > 3500).sum() * len(hertz)
    assert 10 * np.log10(after[band].sum() / noise) == pytest.approx(10, abs=3)


def test_training_hears_a_telephone_in_noise(recorded):
    pytest.importorskip("torch")
    from models.nano.train.features import BY_TELEPHONE, real_clips

    rows = [{"id": "a", "audio": str(recorded / "speech.flac"), "text": "room one"}]
    ((_, clean),), ((labels, heard),) = (list(real_clips(rows, variant, 0)) for variant in (0, BY_TELEPHONE))
    hertz = np.fft.rfftfreq(len(clean), 1 / 16_000)
    before, after = (np.abs(np.fft.rfft(one)) ** 2 for one in (clean, heard))
    assert len(heard) == len(clean)
    assert labels["variant"] == BY_TELEPHONE
    noise = after[hertz > 5000].mean() * len(hertz)
    assert 5 < 10 * np.log10(after.sum() / noise - 1) < 17
    assert after[hertz < 100].mean() < 0.5 * before[hertz < 100].mean() + 2 * after[hertz > 5000].mean()


def test_nothing_is_to_be_said_about_noise_and_sounds(recorded):
    from models.nano.train.lists import clips, silence

    rows = list(silence(clips(recorded), recorded / "out"))
    assert {row["text"] for row in rows} == {""}
    assert [row["source"] for row in rows] == ["noise"] * 30 + ["sounds"]
    assert all(Path(row["audio"]).is_file() for row in rows)


def test_two_clips_are_of_one_speaker_or_of_two(tmp_path):
    from models.nano.train.lists import together

    paths = [str(GOLDEN / "nano" / name) for name in ("man.flac", "woman.flac")]
    rows = [{"audio": path, "speaker": name} for name in ("a", "b") for path in paths]
    made = list(together({"non_native_adults": rows}, tmp_path))
    assert [row["text"] for row in made] == [
        "It is the same speaker.",
        "There is one speaker.",
        "They are different speakers.",
        "There are two speakers.",
    ]
    assert set(made[0]["audio"]) == set(paths)
    assert all(Path(row["audio"]).is_file() for row in made[1::2])


@pytest.mark.slow
def test_the_card_has_the_scores_of_every_list(recorded, capsys, monkeypatch):
    pytest.importorskip("jiwer", reason="requirements-eval.txt is not installed")
    from models.nano.train import card, lists

    monkeypatch.setattr(lists, "SILENT", 1)
    said = (lambda _: "room two"), (lambda _: "<|0.50|>one<|1.00|>hundred<|1.50|>")
    monkeypatch.setattr(card, "whisper", lambda _: said)
    assert card.main([str(recorded), str(recorded / "out"), "--whisper", "stub"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    found = {(row["set"], row["measure"]): (row["clips"], row.get("whisper")) for row in rows}
    assert found == {
        ("words", "words wrong, base prompt"): (1, 0.5),
        ("words", "words wrong, chat"): (1, None),
        ("telephone", "words wrong, base prompt"): (1, 0.5),
        ("librispeech language", "right"): (1, None),
        ("librispeech gender", "right"): (1, None),
        ("sounds event", "right"): (1, None),
        ("noise", "words invented"): (1, None),
        ("sounds", "words invented"): (1, None),
        ("times", "words begin and end, off by"): (1, None),
    }
    assert all(0 <= row["low"] <= row["value"] <= row["high"] for row in rows)


def test_a_restyled_clip_has_the_mean_and_spread_of_another_and_its_own_course():
    pytest.importorskip("torch")
    from models.nano.train.heard_anew import restyled

    rng = np.random.default_rng(3)
    heard, other = (rng.normal(m, s, (200, 4)).astype(np.float16) for m, s in ((0, 1), (5, 3)))
    assert np.allclose(restyled(heard, other, 0.0), heard, atol=2e-3)
    whole = restyled(heard, other, 1.0).astype(np.float64)
    assert np.allclose(whole.mean(0), other.mean(0, dtype=np.float64), atol=0.02)
    assert np.allclose(whole.std(0), other.std(0, dtype=np.float64), atol=0.02)
    assert np.corrcoef(whole[:, 0], heard[:, 0].astype(np.float64))[0, 1] > 0.999


def test_the_short_and_the_named_clips_keep_their_style():
    pytest.importorskip("torch")
    from models.nano.train import batches

    clips = [np.full((40, 512), 3, np.float16) + np.arange(512, dtype=np.float16), np.ones((30, 512), np.float16)]
    untouched = batches.augmented(clips, [False, False], np.random.default_rng(0))
    for before, after in zip(clips, untouched, strict=True):
        assert set(np.unique(after[after != before])) <= {0}


def test_a_steady_path_goes_through_all_ids_in_order():
    pytest.importorskip("torch")
    from models.nano.train.align import steady_path

    scores = np.full((9, 3), -1.0, np.float32)
    scores[0:2, 0] = scores[2:6, 1] = scores[6:, 2] = 1.0
    assert steady_path(scores) == [0, 2, 6]
    scores[:, 1] = -9.0  # an id that is never looked at has one frame all the same
    firsts = steady_path(scores)
    assert firsts[0] == 0
    assert firsts[2] - firsts[1] == 1


def test_clips_that_are_joined_keep_their_texts_and_their_order(tmp_path):
    import random

    from models.nano.train import answers, splices

    first, second = (clip(tmp_path, n, text=text, language="en") for n, text in ((20, "one cat"), (30, "i see")))
    drawn = iter([first, second, first])
    found = splices.joined(random.Random(3), lambda: next(drawn), answers.written)
    assert found.get("text").startswith("one cat i see")
    assert found.get("written").startswith("One cat. I see.")
    assert found.tokens == len(found.features) in {50, 70}
    long = clip(tmp_path, splices.LONGEST, text="a", language="en")
    assert splices.joined(random.Random(3), lambda: long, answers.written).get("text") == "a"


def test_sentences_are_chosen_for_words_that_are_spelled():
    pytest.importorskip("torch")
    from models.nano.train.voices_made import WORDS, cut, rare

    long = " ".join(f"word{number}" for number in range(40))
    spoken = [one for one, _ in cut([(long, None), (long, "Long."), ("too short", None)], random.Random(3))]
    assert len(spoken) == 1
    assert spoken[0] in long
    assert WORDS[0] <= len(spoken[0].split()) <= WORDS[1]
    texts = ["the odd emu ran off", "an emu is a bird", "the emu was seen again", "nothing new is in this"]
    found = rare([(text, None) for text in texts], lambda word: word == "emu", 9)
    assert [one for one, _ in found] == texts[:2], "an emu is rare twice"


def test_what_is_read_aloud_once_is_not_read_again(vocabulary, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from models.nano.train import voices_made

    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.lines").write_text(
        "ZYMURGY QUOKKAS BEJEWEL XYLOPHONES JAUNTILY\n" * 2 + "THE CAT SAT ON IT\n"
    )
    read = []

    def read_aloud(voice, text, wav, speed, pitch):
        assert (speed, pitch) == (100, 100)
        read.append((voice, text))
        soundfile.write(wav, np.zeros(16_000), 16_000)

    monkeypatch.setattr(voices_made, "read_aloud", read_aloud)
    asked = [str(tmp_path / "out"), str(tmp_path / "texts"), "--vocabulary", str(vocabulary)]
    for most, times in (("1", 1), ("1", 1), ("9", 3)):
        voices_made.main([*asked, "--most", most])
        assert len(read) == times
    rows = [json.loads(line) for line in (tmp_path / "out" / "meta.jsonl").read_text().splitlines()]
    assert [row["audio"] for row in rows] == [f"made/0000{number}.flac" for number in range(3)]
    assert [row["text"] for row in rows] == [text for _, text in read]
    assert len({row["speaker"] for row in rows}) == 3
    assert (tmp_path / "out" / rows[0]["audio"]).exists()


def test_phrases_are_read_at_other_speeds_and_pitches_and_the_same_after_a_stop(vocabulary, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from models.nano.train import voices_made

    lines = [f"phrase {number}" for number in range(12)]
    (tmp_path / "chosen").write_text("\n".join(lines) + "\n")
    read = {}

    def read_aloud(voice, text, wav, *ways):
        read.setdefault(wav.parent.name, []).append((text, voice, ways))
        soundfile.write(wav, np.zeros(16_000), 16_000)

    monkeypatch.setattr(voices_made, "read_aloud", read_aloud)
    for out, parts in (("whole", ("12",)), ("stopped", ("5", "12"))):
        for most in parts:
            asked = [str(tmp_path / out), str(tmp_path), "--vocabulary", str(vocabulary), "--most", most]
            voices_made.main([*asked, "--phrases", str(tmp_path / "chosen")])
    assert read["stopped"] == read["whole"]
    assert [text for text, _, _ in read["whole"]] == lines
    assert len({ways for _, _, ways in read["whole"]}) > 6
    speeds, pitches = zip(*(ways for _, _, ways in read["whole"]), strict=True)
    assert voices_made.SPEED[0] <= min(speeds) < max(speeds) <= voices_made.SPEED[1]
    assert voices_made.PITCH[0] <= min(pitches) < max(pitches) <= voices_made.PITCH[1]
    rows = [json.loads(line) for line in (tmp_path / "whole" / "meta.jsonl").read_text().splitlines()]
    assert [row["audio"] for row in rows] == [f"phrases/{number:05}.flac" for number in range(12)]


def test_names_of_files_are_what_is_read_and_letters_are_left_out(tmp_path):
    from models.nano.train.voices_sets import STORIES, robotutor

    names = (
        "1/a_cow_is_my_friend",
        "2/a_cow_is_my_friend",
        "1/it_s_dad_s_car",
        "1/i_can_t",
        "1/the_letter_b",
        "1/b_is_it",
    )
    one = snapshot(tmp_path / "owner+name" / "repo", {f"{STORIES}/{name}.mp3": name for name in (*names, "1/A cow")})
    assert [reading.text for reading in robotutor(one)] == ["a cow is my friend", "i can't", "it's dad's car"]


def test_sounds_of_a_list_are_cut_out_of_their_files(tmp_path, monkeypatch, capsys):
    from models.nano.train import sounds_many
    from models.nano.train.recordings import recordings

    sound = tmp_path / "rain.wav"
    soundfile.write(sound, np.full(32_000, 0.25), 16_000)
    one = snapshot(tmp_path / "owner+name" / "repo", {"rain.wav": sound})
    commit = one.source.split("@")[1]
    lines = (
        "repository,commit,path,sound,begin,seconds,licence,author\n"
        f"owner/name,{commit},rain.wav,rain,0.5,1.25,CC0,somebody\n"
        f"owner/name,{commit},gone.wav,wind,0,1,CC0,\n"
    )
    (tmp_path / "list.csv.xz").write_bytes(lzma.compress(lines.encode()))
    monkeypatch.setattr(sounds_many, "LIST", tmp_path / "list.csv.xz")
    for _ in range(2):  # the second time it is there
        assert sounds_many.main([str(tmp_path / "out"), "--snapshots", str(tmp_path)]) == 0
    (row,) = recordings(tmp_path / "out")
    assert (row["sound"], row["licence"], row["source"]) == ("rain", "CC0", "sounds_many")
    assert len(soundfile.read(row["audio"])[0]) == 20_000
    assert "gone.wav" in capsys.readouterr().err


def test_each_sound_of_the_list_has_a_licence_that_lets_it_be_shared():
    from models.nano.train.sounds_many import listed

    lines = listed()
    assert len(lines) > 500
    free = re.compile(r"(CC0|CC BY|CC BY-SA|Public domain|MIT|Apache 2.0)\b(?!-N)", re.IGNORECASE)
    assert [line for line in lines if not free.match(line["licence"])] == []
    places = [(line["repository"], line["path"], line["begin"]) for line in lines]
    assert len(set(places)) == len(places)


def test_what_else_a_sound_might_be_is_told_by_those_that_sound_alike(tmp_path, capsys):
    pytest.importorskip("torch")
    from models.nano.train import likely
    from models.nano.train.corpus import load

    rng = np.random.default_rng(0)
    means = {"rain": 0.0, "river": 0.3, "dog barking": 8.0}
    lines, features = [], []
    for number in range(60):
        kind = list(means)[number % 3]
        heard = rng.normal(size=(5, 16)) + means[kind] * np.eye(16)[0]
        lines.append({"id": str(number), "sound": kind, "first": 5 * number, "tokens": 5})
        features.append(heard.astype(np.float16))
    lines.append({"id": "60", "text": "hello", "language": "en", "first": 295, "tokens": 5})
    np.save(tmp_path / "real-0-000.npy", np.concatenate(features))
    (tmp_path / "real-0-000.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    likely.main([str(tmp_path)])
    assert "60 clips of 3 kinds" in capsys.readouterr().err
    clips = load([tmp_path])
    assert clips[60].get("likely") is None
    shares = [dict(one.get("likely")) for one in clips[:60]]
    assert all(sum(one.values()) == pytest.approx(1, abs=1e-3) for one in shares)
    of_rain = [one for one, row in zip(shares, lines, strict=False) if row["sound"] == "rain"]
    assert np.mean([one["river"] - one["dog barking"] for one in of_rain]) > 0
    with pytest.raises(SystemExit, match="no sounds"):
        likely.main([str(tmp_path / "nothing")])


def test_some_answers_about_a_sound_name_what_it_might_also_be(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from models.nano.train import examples

    one = clip(tmp_path, 20, sound="rain", likely=[["rain", 0.5], ["river", 0.5]])
    source = examples.Source([one], {"event": 1.0})
    answers = ["".join(piece.text for piece in source.example(random.Random(n)).turns[0][1]) for n in range(200)]
    rivers = sum("river" in answer for answer in answers)
    assert 0.5 * examples.DOUBTED * 0.6 < rivers / 200 < 0.5 * examples.DOUBTED * 1.4
    monkeypatch.setattr(examples, "DOUBTED", 0.0)
    assert "rain" in source.example(random.Random(0)).turns[0][1][1].text


@pytest.mark.parametrize("task", ["transcribe", "transcribe_base"])
def test_two_fifths_of_the_transcripts_are_of_several_clips(task, tmp_path):
    pytest.importorskip("torch")
    from models.nano.train import examples

    one = clip(tmp_path, 50, text="the cat sat", language="en", source="librispeech")
    source = examples.Source([one], {task: 1.0})
    made = [source.example(random.Random(number)) for number in range(300)]
    lengths = [example.clips[0].tokens // 50 for example in made]
    texts = ["".join(piece.text for piece in example.turns[0][1]).lower() for example in made]
    assert [text.count("cat") for text in texts] == lengths
    assert set(lengths) == {1, 2, 3, 4, 6}
    assert sum(length > 1 for length in lengths) / 300 == pytest.approx(examples.JOINED, abs=0.08)


def test_texts_of_whisper_are_read_packed_or_not(tmp_path):
    import lzma

    from models.nano.train.corpus import written_texts

    line = '{"id": "a/1", "written": "Já, it is."}\n{"id": "a/2"}\n'
    (tmp_path / "texts.jsonl").write_text(line, encoding="utf-8")
    (tmp_path / "texts.jsonl.xz").write_bytes(lzma.compress(line.encode()))
    found = written_texts(tmp_path / "texts.jsonl")
    assert found == written_texts(tmp_path / "texts.jsonl.xz") == {"a/1": "Já, it is."}
    assert written_texts(tmp_path / "none.jsonl") == {}
