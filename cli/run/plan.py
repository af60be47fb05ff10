"""The inputs of a run as jobs: what is asked about each, what its files are called, and whether it was done before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from typing import TYPE_CHECKING, NamedTuple

from cli.inputs.listing import Group, Listing
from cli.options import Options
from cli.output.answer import Answer
from cli.output.outputs import SCORES, Outputs
from cli.run.job import Job
from cli.run.questions import Question, own_questions, questions_of_run, settings, with_questions
from errors import InputError, QwenAudioError

if TYPE_CHECKING:
    from cli.run.open_model import Described
    from qwen_audio import Model

STORED = {"txt", "json"}  # formats that can be made again of what is in a JSON file
TOGETHER = 1000  # the most inputs of one job: the progress is shown between two


class _Input(NamedTuple):
    """What is asked about a group, or why it cannot be; what that depends on, and the stem of its files."""

    group: Group
    questions: list[Question]
    problem: Exception | None
    settings: dict[str, object]
    stem: str
    first: str  # the stem of the first row that asks the same


def plan_jobs(
    listing: Listing, model: Model | Described, options: Options, outputs: Outputs, *, load_s: float = 0.0
) -> Iterator[Job]:
    """All inputs as jobs, in order; each is made when there is room for it, for its sounds are hashed here.

    Inputs in a row that were done before are one job, so that a million are soon passed, unless their answers are read.
    """
    done: Job | None = None
    for job in _jobs(listing, model, options, outputs, load_s):
        if done and (done.inputs + job.inputs > TOGETHER or not job.is_done_before):
            yield done
            done = None
        if not job.is_done_before or _reads_back(options):
            yield job
        elif done:
            done.inputs += job.inputs
        else:
            done = job
    if done:
        yield done


def _jobs(
    listing: Listing, model: Model | Described, options: Options, outputs: Outputs, load_s: float
) -> Iterator[Job]:
    """A job for each input, or one for some in a row that an earlier run saw done."""
    before: Job | None = None
    left = 0 if options.benchmark_count or options.ray is not None else len(listing.groups)
    for inputs in _parts(listing, model, options, outputs):
        for is_done, numbers in groupby(range(len(inputs)), _seen(inputs, options, outputs).__getitem__):
            first, *others = [inputs[number] for number in numbers]
            if is_done:
                yield Job(first.group, first.questions, [], first.stem, is_done_before=True, inputs=1 + len(others))
                left -= 1 + len(others)
                continue
            for one in (first, *others):
                left -= 1
                job = _job(one, model, options, outputs, load_s, is_last=left == 0)
                if before and one.group.row and replace(one.group, row=before.group.row) == before.group:
                    job.like = before.like or before if before.is_to_ask or before.like else None
                yield job
                before = job


def _parts(listing: Listing, model: Model | Described, options: Options, outputs: Outputs) -> Iterator[list[_Input]]:
    """The inputs, some at a time."""
    from cli.output.filenames import Filenames

    questions, missing = questions_of_run(options, chat=model.chat)
    common = settings(options, questions, model) if outputs.folder else {}
    reserved = (SCORES,) if options.score else ()
    filenames = Filenames(listing.whole if outputs.folder else (), options.inputs, reserved=reserved)

    def planned(group: Group) -> _Input:
        asked, problem = own_questions(group, questions, options, chat=model.chat, missing=missing)
        own = common if asked is questions else with_questions(common, asked)
        stem = filenames.stem(group) if outputs.folder else ""
        first = filenames.stem(replace(group, row="")) if group.row and stem else stem
        return _Input(group, asked, problem, own, stem, first)

    inputs = map(planned, listing.groups)
    while some := list(islice(inputs, TOGETHER)):
        yield some


def _seen(inputs: Sequence[_Input], options: Options, outputs: Outputs) -> list[bool]:
    """Which inputs an earlier run saw done, and are unchanged, if that is soon known: the others are looked up."""
    if outputs.folder is None or outputs.page or _reads_back(options):
        return [False] * len(inputs)
    return outputs.folder.are_unchanged([(one.stem, one.group.paths, one.settings) for one in inputs])


def _job(
    one: _Input, model: Model | Described, options: Options, outputs: Outputs, load_s: float, *, is_last: bool
) -> Job:
    job = Job(one.group, one.questions, [], one.stem, problem=one.problem, is_last=is_last)
    if _reads_back(options):
        job.answers = _blanks(job, model, load_s)
    if options.score:
        _refer(job)
    if outputs.folder:
        scored = job.scored(options.score) if options.score else {}
        _look_up(job, one.settings, scored, outputs, needs_key=_reads_back(options))
    if not (job.answers or job.is_done_before):
        job.answers = _blanks(job, model, load_s)
    if job.key and not (job.is_done_before or job.problem):
        _recall(job, (one.stem, one.first), outputs)
    return job


def _recall(job: Job, stems: Sequence[str], outputs: Outputs) -> None:
    """Take the answers from the JSON file of a run that asked the same, but scored otherwise."""
    from cli.output.answer import from_record
    from cli.output.key import answer_key

    folder = outputs.folder
    if folder is None or job.key is None or not {"json"} <= set(folder.formats) <= STORED:
        return
    key = answer_key(job.key)
    records = next((found for stem in stems if (found := folder.read(stem, key, job.source))), [])
    answers = [from_record(record, job.group.paths) for record in records]
    stored = [answer for answer in answers if answer is not None]
    if len(stored) == len(job.answers):
        for answer, other in zip(job.answers, stored, strict=True):
            answer.take_over(other)
        job.is_stored = True


def _reads_back(options: Options) -> bool:
    """Whether the answers of earlier runs are read, to be scored or shown again."""
    return options.json or bool(options.score)


def _look_up(
    job: Job, settings: dict[str, object], scored: dict[str, object], outputs: Outputs, *, needs_key: bool
) -> None:
    """Whether a job was done before; the page is told of its sounds. Its files are read by its key."""
    from cli.output.key import identity, scored_key

    folder, paths = outputs.folder, job.group.paths
    assert folder is not None
    job.stamp = folder.stamp(paths, settings | scored if scored else settings)
    job.source = identity(paths, job.group.asked)
    if outputs.page:
        outputs.page.add(paths, job.source)
    if not needs_key and folder.is_unchanged(job.filename, job.source, job.stamp):
        job.is_done_before = True
        return
    job.key = folder.key(paths, settings)
    if job.key and scored:
        job.key = scored_key(job.key, scored)
    job.is_done_before = folder.is_done(job.filename, job.key, job.source, job.stamp)


def _refer(job: Job) -> None:
    """Tell the answers what a good one says."""
    from cli.score.scorer import references_of

    try:
        references = references_of(job.group)
    except InputError as error:
        job.problem = QwenAudioError(error.message, error.fix, kind=error.kind)
        return
    for answer in job.answers:
        answer.references, answer.source = references, job.group.source
        answer.language = job.group.language


def _blanks(job: Job, model: Model | Described, load_s: float) -> list[Answer]:
    """An answer to each question of a job, which is still to be given."""
    directory, answers = str(model.manifest.directory), list[Answer]()
    for question in job.questions:
        answer = Answer(list(job.group.paths), question.prompt, model=directory, backend=model.backend)
        answer.task = question.task.name if question.task else None
        answer.timings["load_s"] = load_s
        answers.append(answer)
    return answers
