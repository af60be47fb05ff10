"""`--ray`: the jobs of a run, answered by several models on a Ray cluster, one model in each actor.

    jobs -> batches -> actors -> the same jobs, over -> reporter

This process finds and hashes the inputs and reports the answers, as in a local run. An actor does with its batch what
a local run does with all jobs: it calls the same function. So the outputs are those of a local run.

These are plain actors, not Ray Data: it asks a batch that kills its actor again for ever, and it wants to know all of
a data set before the first answer, while jobs are planned when there is room for them.
"""

from __future__ import annotations

import logging
import os
import socket
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

from cli.inputs.listing import STDIN
from cli.options import ROOT, Options
from cli.output.outputs import Outputs
from cli.output.progress import Progress
from cli.output.streams import say
from cli.run.job import Job
from cli.run.open_model import VARIABLE, Described, open_model
from cli.run.reporter import Reporter
from cli.signals import clean_up_first
from errors import BackendError, ModelError, QwenAudioError, UsageError
from models.manifest import FILE_NAME, Manifest, file_sha256

BATCH = 8  # jobs for each row of the decoder: what is lost when a worker dies
AHEAD = 32  # batches for each actor that may be over before an earlier job is: they are held in memory
REACH_S = 10  # a cluster answers at once; Ray itself would try an address where nobody listens for minutes
OPENINGS = 3  # tries to open a model in a new worker, when the first ones die
PATIENCE = 30.0  # seconds to wait for a worker until the user is told

AnswerJobs = Callable[[Iterator[Job], Any, Options, Reporter], None]
Outcome = tuple[list[Job], Exception | None]  # the jobs that are over, and the failure that ended the call


class Answerer:
    """What an actor runs: one open model. Failures are returned, for Ray would wrap what is raised."""

    def open(self, options: Options, folder: str, digest: str, answer_jobs: AnswerJobs) -> Outcome:
        """Open the model whose manifest has this digest; `folder` is what names of files are relative to."""
        try:
            os.chdir(folder)
            self._model, self._options, self._answer_jobs = open_model(options), options, answer_jobs
            _check_same(self._model.manifest, digest)
        except Exception as failure:  # noqa: BLE001 - raised again on the other side
            return [], _with_traceback(failure)
        return [], None

    def answer(self, jobs: list[Job]) -> Outcome:
        """Answer a batch, as a local run answers all of its jobs."""
        over = list[Job]()
        silent = Progress(len(jobs), quiet=True)
        reporter = Reporter(Outputs(show=lambda _: None), silent, streams=False, hand_on=over.append)
        failure: Exception | None = None
        try:
            self._answer_jobs(iter(jobs), self._model, self._options, reporter)
        except Exception as error:  # noqa: BLE001 - raised again on the other side
            failure = _with_traceback(error)
        for job in over:
            job.failure = job.failure and _with_traceback(job.failure)
        return over, failure


@dataclass(frozen=True, eq=False)
class _Batch:
    """Jobs for one call. `is_second`: it is a single job whose worker died before."""

    jobs: list[Job]
    is_second: bool = False


class Cluster:
    """A connection to Ray with open models: give it the jobs of one run."""

    def __init__(self, options: Options, model: Described, answer_jobs: AnswerJobs) -> None:
        """Connect, start the actors, and wait until the first model is open.

        Raises BackendError where there is no cluster, and what opening a model raises.
        """
        import ray

        self._ray: Any = ray
        self._idle = list[Any]()
        self._at: dict[Any, tuple[Any, _Batch | int]] = {}  # call -> actor, and its batch or its number of openings
        self._again = deque[_Batch]()
        self._is_told = False
        _connect(ray, str(options.ray))
        try:
            nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
            self._count = options.actors or sum(cores > 0 for cores in nodes) or 1
            cores = options.threads or cores_each(nodes, self._count)
            own = replace(options, threads=cores, backend=model.backend, quiet=True, keep=None)
            self._opening = (own, str(Path.cwd()), _digest(model.manifest), answer_jobs)
            self._actor = ray.remote(Answerer).options(
                num_cpus=cores,
                num_gpus=int(options.device.startswith("cuda")),
                max_restarts=0,
                runtime_env={"env_vars": _environment()},
            )
            self._size = BATCH * options.batch
            for _ in range(self._count):
                self._start()
            while not self._idle:
                self._wait(None)
            model.say_notes(options)
        except BaseException:
            ray.shutdown()
            raise

    def answer(self, jobs: Iterator[Job], reporter: Reporter) -> None:
        """Answer all jobs and leave the cluster."""
        try:
            batches, ahead = self._batches(jobs, reporter), None  # one is drawn ahead, while the others are answered
            while True:
                if ahead is None and reporter.under_way < AHEAD * self._size * self._count:
                    ahead = next(batches, None)
                if self._idle and (batch := self._again.popleft() if self._again else ahead):
                    actor = self._idle.pop()
                    self._at[actor.answer.remote(batch.jobs)] = actor, batch
                    ahead = None if batch is ahead else ahead
                elif ahead or self._again or self._is_answering:
                    self._wait(reporter)
                else:
                    return
        finally:
            self._ray.shutdown()

    def _batches(self, jobs: Iterator[Job], reporter: Reporter) -> Iterator[_Batch]:
        """The jobs that are to be answered; all are begun here, in order."""
        due = (job for job in jobs if _is_due(job, reporter))
        while batch := list(islice(due, self._size)):
            yield _Batch(batch)

    @property
    def _is_answering(self) -> bool:
        return any(isinstance(at, _Batch) for _, at in self._at.values())

    def _start(self, number: int = 1) -> None:
        """Start an actor and let it open its model; it waits for free cores as long as it must."""
        actor = self._actor.remote()
        self._at[actor.open.remote(*self._opening)] = actor, number

    def _wait(self, reporter: Reporter | None) -> None:
        """Wait for one call at least, and take what came."""
        calls, _ = self._ray.wait(list(self._at), timeout=PATIENCE)
        if not (calls or self._is_answering or self._is_told):
            say(f"--ray: no model is open yet; each of {self._count} needs {self._opening[0].threads} free cores")
            self._is_told = True
        for call in calls:
            actor, at = self._at.pop(call)
            try:
                over, failure = self._ray.get(call)
            except self._ray.exceptions.RayTaskError:
                raise
            except self._ray.exceptions.RayError as death:
                self._ray.kill(actor)  # it may only be out of reach
                self._replace(at, death, reporter)
                continue
            if isinstance(at, _Batch) and reporter:
                self._idle.append(actor)
                _report(at, over, failure, reporter)
            elif failure is None:
                self._idle.append(actor)
            else:
                self._drop(actor, failure)

    def _replace(self, at: _Batch | int, death: Exception, reporter: Reporter | None) -> None:
        """A worker died: start another. Each job of its batch is asked again alone, and fails the second time."""
        if isinstance(at, int):
            if at < OPENINGS:
                self._start(at + 1)
                return
            reason = str(death).strip().split("\n")[0]
            fix = f"see that {ROOT} and the model lie on each machine, and that there is memory for fewer --actors"
            self._drop(None, BackendError(f"--ray: workers die while they open the model ({reason})", fix))
            return
        self._start()
        if at.is_second and reporter:
            (job,) = at.jobs
            fix = "answer it without --ray to see why"
            reporter.fail(job, QwenAudioError(f"{job}: its worker died, twice", fix, kind="worker"))
        else:
            self._again.extend(_Batch([job], is_second=True) for job in at.jobs)

    def _drop(self, actor: Any, failure: Exception) -> None:
        """Go on without this actor, whose model did not open; raises its failure where no model is open."""
        if not (self._idle or self._is_answering):
            raise failure
        say(f"--ray: one model less; {failure}")
        if actor is not None:
            self._ray.kill(actor)


def cores_each(nodes: list[int], actors: int) -> int:
    """The most cores for each of `actors` such that all find room on machines with so many cores; at least 1."""
    most = max(nodes, default=1)
    return next((cores for cores in range(most, 1, -1) if sum(own // cores for own in nodes) >= actors), 1)


def _is_due(job: Job, reporter: Reporter) -> bool:
    """Begin a job; False if there is nothing to ask."""
    reporter.begin(job)
    if not job.is_to_ask:
        reporter.settle(job)
    elif STDIN in job.group.paths:
        reporter.fail(job, UsageError("--ray: standard input cannot be sent to a cluster", "save it to a file"))
    return job.is_to_ask and not job.is_over


def _report(batch: _Batch, over: list[Job], failure: Exception | None, reporter: Reporter) -> None:
    for job, copy in zip(batch.jobs, over, strict=failure is None):
        job.take_over(copy)
        reporter.settle(job)
    if failure is not None:
        raise failure


def _connect(ray: Any, address: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to Ray's authors
    begun = perf_counter()
    try:
        _check_reachable(address)
        ray.init(address or None, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except Exception as error:  # noqa: BLE001 - a cluster that takes too long to start is a bare Exception
        reason, seconds = str(error).strip().split("\n")[0], f"{perf_counter() - begun:.0f} s"
        if not address:
            text = f"--ray: no cluster started here within {seconds} ({reason})"
            raise BackendError(text, "try again, or start one with `ray start --head` and give its ADDRESS") from None
        text = f"--ray {address}: no cluster answers after {seconds} ({reason})"
        raise BackendError(text, "start one with `ray start`; a file after --ray is taken for its ADDRESS") from None
    # Else Ray writes what happens to machines to standard output, among the answers; it has no public switch for that.
    ray._private.worker._worker_logs_enabled = False  # noqa: SLF001
    clean_up_first()  # Ray has put a handler of its own in the place of ours


def _check_reachable(address: str) -> None:
    """Raise OSError or OverflowError where nobody listens at HOST:PORT; other addresses Ray looks for itself."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=REACH_S).close()


def _environment() -> dict[str, str]:
    """What a worker on any machine must know: where the program lies, which model is meant."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, **{name: os.environ[name] for name in (VARIABLE,) if name in os.environ}}


def _digest(manifest: Manifest) -> str:
    return file_sha256(manifest.path(FILE_NAME))


def _check_same(manifest: Manifest, digest: str) -> None:
    if _digest(manifest) != digest:
        text = f"{socket.gethostname()}: {manifest.directory} holds another model than here"
        raise ModelError(text, "copy this one there")


def _with_traceback(failure: Exception) -> Exception:
    """Its traceback as a note, which --debug shows: pickling drops the traceback itself."""
    failure.add_note("".join(traceback.format_exception(failure)))
    return failure
