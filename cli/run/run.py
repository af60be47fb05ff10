"""One run: every input is read, heard, asked about and answered.

    inputs -> jobs -> segments -> clips -> requests -> text

The pipeline itself is in qwen_audio.py: `listen`, `prompt_ids`, `answer_all`. Here is what a run over many inputs adds:
which questions are asked about which sounds, reading ahead in a thread, and who is informed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from cli.errors import OK
from cli.inputs.listing import STDIN, Listing, find_inputs
from cli.options import Options
from cli.output.answer import Answer
from cli.output.cues import Layout
from cli.output.folder import ResultsFolder
from cli.output.formats import PAGE
from cli.output.outputs import Outputs
from cli.output.progress import Progress
from cli.output.streams import check_savepath, check_stdout, say
from cli.run.job import Job
from cli.run.open_model import Described, describe_model, open_model, say_environments
from cli.run.plan import plan_jobs
from cli.run.prefetch import prefetch
from cli.run.reporter import Reporter, RunOver
from cli.run.segments import Segment, segments
from cli.signals import clean_up_first
from decoder.generate import Request
from errors import PromptError
from qwen_audio import Model, answer_all, choose, listen, prompt_ids

if TYPE_CHECKING:
    from cli.output.page import Page
    from cli.run.questions import Question
    from cli.score.scorer import Scorer


COMPARED = 2  # sounds that people compare on purpose; more may be a pattern that the shell resolved


def run(options: Options) -> int:
    """Answer every input; returns the exit code of the run. What makes it impossible as a whole is raised."""
    for note in options.notes:
        say(note, quiet=options.quiet)
    if options.env_list:
        say_environments()
        if not (options.inputs or options.lists):
            return OK
    listing = find_inputs(options)
    _check_outputs(listing, options)
    folder = _open_folder(options)
    outputs = Outputs(
        json=options.json,
        debug=options.debug,
        quiet=options.quiet,
        savepath=options.savepath,
        folder=folder,
        page=_open_page(folder, options),
        scorer=_open_scorer(options, listing),
        shard=options.shard,
    )
    total = len(listing.groups) + len(listing.problems)
    beside_answers = folder is None and sys.stdout.isatty()
    with Progress(total, quiet=options.quiet, beside_answers=beside_answers) as progress:
        reporter = Reporter(outputs, progress, streams=outputs.shows_text and options.batch == 1, is_alone=total == 1)
        for note in listing.skipped:
            say(note, quiet=options.quiet)
        if options.benchmark_count:
            reporter.answered = []
        try:
            for path, problem in listing.problems:
                reporter.fail_input(path, problem)
            if listing.groups:
                _answer_all(listing, options, outputs, reporter)
        finally:  # interrupted, too: the answers that are whole are kept
            reporter.close()
    for note in _together(listing, options) if reporter.code == OK else ():
        say(note, quiet=options.quiet)
    return reporter.code


def _together(listing: Listing, options: Options) -> Iterator[str]:
    """A note where one question is asked about so many sounds that each may have been meant."""
    first = listing.groups[0] if listing.groups else None
    if first and len(first.paths) > COMPARED and set(first.paths) <= set(options.inputs):
        yield f"one question about {len(first.paths)} sounds together; --each asks about each"


def _check_outputs(listing: Listing, options: Options) -> None:
    """Raise UsageError where answers would go into what is read."""
    read = [*options.lists, *options.prompts_from]

    def sounds() -> Iterator[str]:
        return (path for group in listing.whole for path in group.paths)

    if options.json or options.output_dir is None:  # else nothing is written there, and a million are not looked at
        check_stdout(chain(read, sounds()))
    if options.savepath:
        beside = (str(Path(path).with_suffix(".txt")) for path in sounds() if path != STDIN)
        check_savepath(options.savepath, chain(read, sounds(), beside if options.score else ()))


def _open_folder(options: Options) -> ResultsFolder | None:
    if options.output_dir is None:
        return None
    layout = Layout(options.max_line_width, options.max_line_count, options.highlight_words)
    formats = [fmt for fmt in options.formats if fmt != PAGE]
    return ResultsFolder(options.output_dir, formats, overwrite=options.overwrite, layout=layout)


def _open_page(folder: ResultsFolder | None, options: Options) -> Page | None:
    if folder is None or PAGE not in options.formats:
        return None
    from cli.output.page import Page

    return Page(folder)


def _open_scorer(options: Options, listing: Listing) -> Scorer | None:
    if not options.score:
        return None
    from cli.score.scorer import Scorer

    scorer = Scorer(options.score, language=options.language)
    scorer.prepare(listing.whole)  # of all shards: an answer has the same score in each
    return scorer


def _answer_all(listing: Listing, options: Options, outputs: Outputs, reporter: Reporter) -> None:
    begun = time.perf_counter()
    model: Model | Described
    answer: Callable[..., None]
    if options.ray is None:
        model = open_model(options)
        answer = partial(answer_jobs, model=model, options=options)
    else:
        from cli.run.cluster import Cluster

        model = describe_model(options)
        answer = Cluster(options, model, answer_jobs).answer
    clean_up_first()
    jobs = plan_jobs(listing, model, options, outputs, load_s=time.perf_counter() - begun)
    try:
        answer(jobs, reporter=reporter)
    except RunOver:
        pass
    except BrokenPipeError:
        raise
    except Exception as failure:  # noqa: BLE001 - reported in a line; a bug is raised again
        reporter.abort(failure)
    if options.benchmark_count:
        from cli.run.benchmark import benchmark

        assert not isinstance(model, Described)  # --ray does not go with --benchmark
        for job in reporter.answered or ():
            benchmark(partial(_answer_again, job, model, options), options.benchmark_count)


def answer_jobs(jobs: Iterable[Job], model: Model, options: Options, reporter: Reporter) -> None:
    """The whole way, for all jobs."""
    requests = _ask(jobs, model, options, reporter)
    if options.choices:
        for request in requests:
            _choose(request, model, options.choices, reporter)
    else:
        for event, text in answer_all(requests, model):
            reporter.take(event, text)


def _ask(jobs: Iterable[Job], model: Model, options: Options, reporter: Reporter) -> Iterator[Request]:
    """Jobs -> requests: each question about each segment of sound."""
    # The next sounds are read and encoded while these are answered.
    heard = prefetch(partial(_hear, model=model, options=options), jobs, timeout=options.timeout)
    with closing(heard):
        for job, segment in heard:
            if isinstance(segment, Exception):
                reporter.fail(job, segment)
                continue
            if segment is None:
                reporter.settle(job)
                continue
            for query in reporter.hear(job, segment):
                if _says_nothing(segment, query.question, options):
                    reporter.leave_silent(query)
                    continue
                try:
                    ids = prompt_ids(query.question.prompt, segment.clips, model, system=options.system)
                except PromptError as failure:
                    reporter.fail(job, failure)
                    break
                query.answer.prompt_tokens = max(query.answer.prompt_tokens, len(ids))
                longest = query.question.max_new_tokens
                yield Request(query, ids, segment.clips, model.stop_ids, longest, job.deadline, group=job)


def _hear(job: Job, model: Model, options: Options) -> Iterator[Segment | None]:
    """The segments of a job with their clips, or None for one that was answered in an earlier run, or is as another."""
    if options.timeout is not None:
        job.deadline = time.monotonic() + options.timeout
    if not job.is_to_ask:
        yield None
        return
    if job.problem is not None:
        raise job.problem
    for segment in segments(job.group.paths, job.notes, long=options.long, longest=options.window, clips=options.clips):
        if job.failure is not None:
            return
        begun = time.perf_counter()
        if not all(_says_nothing(segment, question, options) for question in job.questions):
            segment.clips = listen(segment.waveforms, model)
        segment.waveforms = []
        segment.encode_s = time.perf_counter() - begun
        if job.is_last and segment.is_last:
            model.encoder.close()  # a tenth of the model's memory, while the last answer is decoded
        yield segment


def _says_nothing(segment: Segment, question: Question, options: Options) -> bool:
    """Whether there are no words to ask about: silence is not decoded, and not encoded where nobody asks more."""
    return segment.is_silent and question.is_about_words and not options.choices


def _choose(request: Request, model: Model, choices: tuple[str, ...], reporter: Reporter) -> None:
    query = request.key
    try:
        log_probs = choose(request.ids, request.clips, model, choices)
    except PromptError as failure:
        reporter.fail(query.job, failure)
    else:
        likeliest = max(log_probs, key=lambda choice: log_probs[choice])
        reporter.choose(query, log_probs, model.tokenizer.encode(likeliest, special="audio"))


def _answer_again(job: Job, model: Model, options: Options) -> Answer:
    """The first answer of a job, once more, shown nowhere."""
    fresh = Job(job.group, job.questions, [Answer(one.input, one.prompt) for one in job.answers])
    silent = Reporter(Outputs(show=lambda _: None), Progress(1, quiet=True), streams=False)
    answer_jobs([fresh], model, options, silent)
    return fresh.answers[0]
