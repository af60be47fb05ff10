"""The task table: the official tags to the letter, sentences for chat, and an error with the fix for all else."""

import json
import re
import subprocess
import sys

import pytest

from errors import UsageError
from tests.conftest import GOLDEN
from tokenizer.special_tokens import audio_tokens
from tokenizer.tasks import (
    CAPTION_STYLES,
    LANGUAGES,
    TASKS,
    TaskOptions,
    find_task,
    language_code,
    list_tasks,
    parse_choices,
    task_prompt,
)
from tokenizer.timestamps import TimedWord

# From the model's own evaluation (../shared/reference/TASKS.md): task, options, tags, new tokens.
OFFICIAL = [
    ("transcribe", {}, "<|startoftranscript|><|en|><|transcribe|><|en|><|notimestamps|><|wo_itn|>", 256),
    (
        "transcribe",
        {"language": "zh"},
        "<|startoftranscript|><|zh|><|transcribe|><|zh|><|notimestamps|><|wo_itn|>",
        256,
    ),
    ("timestamps", {"language": "en"}, "<|startoftranscript|><|en|><|transcribe|><|en|><|timestamps|><|0.00|>", 256),
    ("translate", {"to": "de"}, "<|startoftranscript|><|en|><|translate|><|de|><|notimestamps|><|itn|>", 256),
    (
        "translate",
        {"language": "zh", "to": "en"},
        "<|startoftranscript|><|zh|><|translate|><|en|><|notimestamps|><|itn|>",
        256,
    ),
    ("caption", {}, "<|startofanalysis|><|unknown|><|caption|><|en|><|notimestamps|><|caption_clotho|>", 30),
    ("scene", {}, "<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|><|scene|>", 10),
    ("emotion", {}, "<|startofanalysis|><|en|><|keyword|><|en|><|notimestamps|><|emotion_recognition|>", 4),
    ("question", {"question": "Is it a dog?"}, "<|startofanalysis|><|en|><|question|>Is it a dog?<|answer|>", 4),
    ("vocal-sound", {}, "<|startofanalysis|><|en|><|keyword|><|en|><|notimestamps|><|vocal_classification|>", 4),
    ("note", {}, "<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|><|note_analysis|>", 30),
]
BASE = sorted({name for name, *_ in OFFICIAL})
CHAT_ONLY = sorted(TASKS.keys() - set(BASE))
FULL = {
    "language": "fr",
    "to": "de",
    "question": "Who is it?",
    "choices": ("yes", "no"),
    "word": "classes",
    "itn": True,
    "caption_style": "plain",
}


def prompt(name, *, chat, **options):
    return task_prompt(find_task(name), chat=chat, options=TaskOptions(**options))


def taken(name, *, chat, only_needed=False):
    """Options that a task takes, or needs, with a value each."""
    task = TASKS[name]
    return {slot: FULL[slot] for slot in (task.needs(chat=chat) if only_needed else task.slots(chat=chat))}


# --- the base model's tags


@pytest.mark.parametrize(("name", "options", "tags", "new_tokens"), OFFICIAL)
def test_the_tags_are_the_official_ones(name, options, tags, new_tokens):
    assert prompt(name, chat=False, **options) == tags
    assert TASKS[name].max_new_tokens == new_tokens


@pytest.mark.reference
def test_every_official_prompt_is_in_the_table(reference):
    """The table of the reference, read: its third column is the limit of new tokens."""
    text = (reference / "TASKS.md").read_text(encoding="utf-8").replace("\\|", "¦")
    rows = [line.split("|")[1:4] for line in text.splitlines() if "`<¦startof" in line and line.startswith("|")]
    official = {re.search("`(.*?)`", tags)[1].replace("¦", "|"): int(new_tokens) for _, tags, new_tokens in rows}
    ours = {}
    for name in BASE:
        template = TASKS[name].base if name != "emotion" else prompt("emotion", chat=False)
        for slot, written in {
            "language": "L",
            "to": "T",
            "itn": "wo_itn",
            "caption_style": "clotho",
            "question": "QUESTION",
        }.items():
            template = template.replace(f"{{{slot}}}", written)
        ours[template] = TASKS[name].max_new_tokens
    assert ours == official


@pytest.mark.parametrize("name", BASE)
def test_every_tag_is_a_special_token(name):
    for full in (True, False):
        tags = re.findall(r"<\|.*?\|>", prompt(name, chat=False, **taken(name, chat=False, only_needed=not full)))
        assert len(tags) >= 4
        assert set(tags) <= set(audio_tokens())


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_has_a_tag(code):
    assert f"<|{code}|>" in audio_tokens()
    assert prompt("transcribe", chat=False, language=code).count(f"<|{code}|>") == 2


@pytest.mark.parametrize("style", CAPTION_STYLES)
def test_every_caption_style_has_a_tag(style):
    assert prompt("caption", chat=False, caption_style=style).endswith(f"<|notimestamps|><|caption_{style}|>")


def test_itn_is_a_tag_of_the_transcription():
    assert prompt("transcribe", chat=False, itn=True).endswith("<|notimestamps|><|itn|>")


def test_the_language_of_an_emotion_is_that_of_the_speech():
    assert prompt("emotion", chat=False, language="zh").startswith("<|startofanalysis|><|zh|><|keyword|><|en|>")


@pytest.mark.parametrize("name", CHAT_ONLY)
def test_a_task_without_official_tags_needs_a_chat_model(name):
    with pytest.raises(UsageError, match=f"--task {name} has no tags for a base model; take a chat model"):
        prompt(name, chat=False)
    assert TASKS[name].max_new_tokens is None


# --- the chat model's sentences


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("transcribe", {}, "what does the person say?"),
        ("transcribe", {"language": "ES"}, "The person speaks Spanish. what does the person say?"),
        ("translate", {"to": "de"}, "Translate the speech into German."),
        ("translate", {"to": "en"}, "Translate the speech into English."),
        ("translate", {"to": "english", "language": "ja"}, "Translate the speech from Japanese into English."),
        ("timestamps", {"word": "middle classes"}, 'Find the start time and end time of the word "middle classes"'),
        ("instrument", {}, "what is the instrument"),
        ("instrument", {"choices": ("piano", "harp")}, "what is the instrument? Choose one of: piano, harp."),
        ("question", {"question": " Who is it? "}, "Who is it?"),
        ("question", {"question": "Is it?", "choices": ("yes", "no")}, "Is it? Choose one of: yes, no."),
        ("question", {"question": "A dog or a cat?", "choices": ("dog", "cat")}, "A dog or a cat?"),
        ("gender", {}, "Is the speaker a man or a woman?"),
        ("gender", {"choices": ("woman", "man")}, "Is the speaker a man or a woman?"),  # it names them
        ("gender", {"choices": ("wo", "man")}, "Is the speaker a man or a woman? Choose one of: wo, man."),
        ("vocal-sound", {"choices": ("a", "b")}, "What vocal sound does the person make? Choose one of: a, b."),
    ],
)
def test_a_sentence_says_what_the_options_say(name, options, sentence):
    assert prompt(name, chat=True, **options) == sentence


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.labels])
def test_a_closed_task_lists_its_labels(name):
    assert prompt(name, chat=True).endswith(f"Choose one of: {', '.join(TASKS[name].labels)}.")


@pytest.mark.reference
@pytest.mark.parametrize(
    "sentence",
    [
        prompt("transcribe", chat=True),
        prompt("timestamps", chat=True, word="middle classes"),
        prompt("instrument", chat=True),
    ],
)
def test_published_prompts_are_used_to_the_letter(reference, sentence):
    published = json.loads((reference / "published_answers.json").read_text(encoding="utf-8"))
    assert sentence in {turn["prompt"] for case in published for turn in case["turns"]}


@pytest.mark.parametrize("name", TASKS)
def test_no_prompt_has_an_open_slot(name):
    for only_needed in (True, False):
        for chat in (True, False) if TASKS[name].base else (True,):
            asked = prompt(name, chat=chat, **taken(name, chat=chat, only_needed=only_needed))
            assert not re.search(r"[\[\]{}]", asked)
            assert asked == asked.strip()


@pytest.mark.parametrize("chat", [True, False])
def test_what_the_user_writes_is_taken_as_it_is(chat):
    question = r"is [it] {choices} or {question}, \1 <|en|>?"
    assert question in prompt("question", chat=chat, question=question)


# --- errors


def test_an_unknown_task_is_named_with_what_is_close():
    with pytest.raises(UsageError, match="no task 'transcibe'; did you mean transcribe"):
        find_task("transcibe")
    with pytest.raises(UsageError, match="no task 'xyzzy'; --list-tasks shows all"):
        find_task("xyzzy")


@pytest.mark.parametrize("name", ["en", "EN", "English", " english "])
def test_a_language_is_known_by_code_and_name(name):
    assert language_code(name) == "en"


@pytest.mark.parametrize("name", ["", "klingon", "e", "eng", "zh_tr", "unknown"])
def test_an_unknown_language_lists_the_known_ones(name):
    with pytest.raises(UsageError, match=r"unknown language .*en \(English\), zh \(Chinese\).*it \(Italian\)"):
        language_code(name)


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("translate", {}, "--task translate needs --to; see --list-tasks"),
        ("question", {}, "--task question needs --question; see --list-tasks"),
        ("question", {"question": " "}, "needs --question"),
        ("caption", {"language": "en"}, "--task caption takes no --language; it takes"),
        ("scene", {"word": "x"}, "--task scene takes no --word; it takes --choices"),
        ("transcribe", {"choices": ("a", "b")}, "--task transcribe takes no --choices; it takes --language"),
        ("note", {"language": "en"}, "--task note takes no --language; it takes no option"),
        ("transcribe", {"language": "klingon"}, "unknown language 'klingon'"),
        ("translate", {"to": "klingon"}, "unknown language 'klingon'"),
        ("translate", {"to": "fr", "language": "French"}, "--task translate from French into French: name what is"),
    ],
)
def test_options_that_do_not_fit_are_told_with_the_fix(name, options, message, chat):
    if name == "caption" and chat:
        message = "--task caption takes no --language; it takes no option"
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        prompt(name, chat=chat, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "chat", "message"),
    [
        ("timestamps", {}, True, "--task timestamps needs --word with a chat model"),
        (
            "timestamps",
            {"word": "x"},
            False,
            "--task timestamps takes no --word with a base model; it takes --language",
        ),
        ("timestamps", {"word": "x", "language": "en"}, True, "takes no --language with a chat model; it takes --word"),
        ("transcribe", {"itn": True}, True, "--task transcribe takes no --itn with a chat model"),
        ("caption", {"caption_style": "plain"}, True, "takes no --caption-style with a chat model"),
        (
            "caption",
            {"caption_style": "long"},
            False,
            "unknown --caption-style 'long'; the model knows plain, audiocaps",
        ),
        ("translate", {"to": "en"}, False, "from English into English: name what is spoken with --language"),
    ],
)
def test_options_of_one_kind_of_model_are_told_so(name, options, chat, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        prompt(name, chat=chat, **options)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("chat", [True, False])
def test_every_option_is_taken_or_refused(name, chat):
    if not chat and TASKS[name].base is None:
        return
    needed = taken(name, chat=chat, only_needed=True)
    for slot, value in FULL.items():
        if slot in TASKS[name].slots(chat=chat):
            prompt(name, chat=chat, **{**needed, slot: value})
        else:
            with pytest.raises(UsageError, match="takes no"):
                prompt(name, chat=chat, **{**needed, slot: value})


def test_choices_are_parts_between_commas():
    assert parse_choices("yes, no ,a dog") == ("yes", "no", "a dog")


@pytest.mark.parametrize("text", ["", "yes", "yes,", ",", "yes,,no", "yes,no,yes", " , "])
def test_choices_that_are_no_choice_are_refused(text):
    with pytest.raises(UsageError, match="two or more different options"):
        parse_choices(text)


# --- reading answers


@pytest.mark.parametrize("name", TASKS)
def test_every_task_reads_an_answer(name):
    text, words = TASKS[name].parse(" a dog. ")
    assert text == "a dog."
    assert words == ([] if name == "timestamps" else None)


def test_the_answer_to_timestamps_is_read_as_words():
    assert TASKS["timestamps"].parse("<|sil|><|0.54|>mister<|0.86|>") == ("mister", [TimedWord("mister", 0.54, 0.86)])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("mister quilter is", "mister quilter is"),
        ('The person says: "mister quilter is".', "mister quilter is"),
        ('The person says: "mister quilter is"', "mister quilter is"),
        ('The person says: "mister quilter is', "mister quilter is"),  # cut off
        ('The person says: "he said "no" to me".', 'he said "no" to me'),
        ('The speech is of a man speaking, in a Spanish, saying, "Bueno, sí.".', "Bueno, sí."),
        ('The sound is of a man speaking, in a English, saying, "so".', "so"),
        ('She says "hello" and goes', 'She says "hello" and goes'),
        ('The person says: nothing "at all".', 'The person says: nothing "at all".'),
        ('The person says: "".', ""),
        ("", ""),
    ],
)
def test_a_transcript_is_taken_out_of_its_sentence(answer, said):
    assert TASKS["transcribe"].parse(answer) == (said, None)


@pytest.mark.reference
def test_published_transcripts_are_taken_out(reference):
    published = json.loads((reference / "published_answers.json").read_text(encoding="utf-8"))
    answers = [turn["answer"] for case in published for turn in case["turns"] if "say" in turn["answer"]]
    assert len(answers) == 4
    for answer in answers:
        assert TASKS["transcribe"].parse(answer)[0] == answer[answer.index('"') + 1 : answer.rindex('"')]


# --- the list


def test_the_list_shows_every_task_with_both_prompts():
    listed = list_tasks()
    for name, task in TASKS.items():
        assert re.search(rf"^{name} +{re.escape(task.help)}$", listed, re.MULTILINE)
        assert f"  base   {task.base or 'no official prompt: needs a chat model'}\n" in listed + "\n"
        assert task.labels or f"  chat   {task.chat}\n" in listed + "\n"
    assert "  takes  --language (base only), --word (chat only, needed)\n" in listed
    assert all(len(line) <= 120 and line == line.rstrip() for line in listed.splitlines())


def test_the_table_costs_no_start_up_time():
    """Nothing heavier than the standard library comes with it."""
    code = "import sys, tokenizer.tasks; print([m for m in ('numpy', 'regex', 'tiktoken', 'onnxruntime') if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=GOLDEN.parents[1], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
