"""Inputs become jobs: those that were done before are passed together, the others come one by one, in order."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from cli.inputs.listing import find_inputs
from cli.options import parse_arguments
from cli.output import seen
from cli.output.folder import ResultsFolder
from cli.output.outputs import Outputs
from cli.run import plan
from cli.run.plan import plan_jobs

ROOT = Path(__file__).resolve().parent.parent
MODEL = SimpleNamespace(
    manifest=SimpleNamespace(directory="stub", path=lambda _: ROOT / "pyproject.toml"), backend="stub", chat=True
)


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """planned(*flags) -> the jobs of seven sounds."""
    for name in "abcdefg":
        (tmp_path / f"{name}.wav").write_bytes(name.encode())
    monkeypatch.setattr(plan, "TOGETHER", 3)

    def planned(*flags):
        arguments = ["--files-from", str(tmp_path / "list.txt"), "-o", str(tmp_path / "out"), *flags]
        (tmp_path / "list.txt").write_text("".join(f"{tmp_path / name}.wav\n" for name in "abcdefg"))
        options = parse_arguments(arguments)
        outputs = Outputs(folder=ResultsFolder(tmp_path / "out", options.formats))
        jobs = list(plan_jobs(find_inputs(options), MODEL, options, outputs))
        return jobs, outputs.folder

    return planned


def told(jobs):
    """Each job: the name of its first sound, and how many were done before, or that it is to be answered."""
    return [(Path(job.group.paths[0]).stem, job.inputs if job.is_done_before else "new") for job in jobs]


def answer(job, folder):
    folder.write(job.filename, job.answers, job.key, job.source, job.stamp)


def test_done_inputs_in_a_row_are_one_job_and_new_ones_keep_their_place(planned):
    jobs, folder = planned()
    assert told(jobs) == [(name, "new") for name in "abcdefg"]
    for job in jobs:
        if job.filename != "e":
            answer(job, folder)
    jobs, folder = planned()
    assert told(jobs) == [("a", 3), ("d", 1), ("e", "new"), ("f", 2)]
    (new,) = (job for job in jobs if not job.is_done_before)
    assert [(one.input, one.model) for one in new.answers] == [(list(new.group.paths), "stub")]
    answer(new, folder)
    assert told(planned()[0]) == [("a", 3), ("d", 3), ("g", 1)]


def test_a_shard_passes_its_own_done_inputs(planned):
    for job in (answered := planned())[0]:
        answer(job, answered[1])
    assert told(planned("--shard", "2/2")[0]) == [("b", 3)]
    assert told(planned("--shard", "1/2")[0]) == [("a", 3), ("g", 1)]


def test_scored_inputs_that_are_done_are_jobs_of_their_own_with_answers(planned, tmp_path):
    pytest.importorskip("jiwer")
    for name in "abcdefg":
        (tmp_path / f"{name}.txt").write_text("what is said")
    for job in (answered := planned("--score", "wer"))[0]:
        answer(job, answered[1])
    jobs, _ = planned("--score", "wer")
    assert told(jobs) == [(name, 1) for name in "abcdefg"]
    assert all(job.answers and job.key for job in jobs)


@pytest.mark.parametrize("flags", [("-p", "who?"), ("--window", "10"), ("-f", "json")])
def test_another_question_is_asked_anew(planned, flags):
    for job in (answered := planned())[0]:
        answer(job, answered[1])
    assert {kind for _, kind in told(planned(*flags)[0])} == {"new"}


def test_a_row_with_a_question_of_its_own_is_another_input(planned, tmp_path):
    first = tmp_path / "a.wav"
    (tmp_path / "rows.jsonl").write_text(f'{{"audio": "{first}"}}\n{{"audio": "{first}", "prompt": "who?"}}\n')
    options = parse_arguments(["--files-from", str(tmp_path / "rows.jsonl"), "-o", str(tmp_path / "out")])
    outputs = Outputs(folder=ResultsFolder(tmp_path / "out", options.formats))
    first, second = plan_jobs(find_inputs(options), MODEL, options, outputs)
    assert len({first.key, second.key}) == len({first.filename, second.filename}) == 2
    answer(second, outputs.folder)
    assert told(plan_jobs(find_inputs(options), MODEL, options, outputs)) == [("a", "new"), ("a", 1)]


def test_what_was_seen_done_is_passed_in_one_go_and_a_change_is_noticed(planned, tmp_path, monkeypatch):
    for name in ("ON_DISK", "SETTLED"):
        monkeypatch.setattr(seen, name, -1e6)
    for job in (answered := planned())[0]:
        answer(job, answered[1])
    planned()  # all are noted as seen
    looked_up = []
    monkeypatch.setattr(plan, "_look_up", lambda job, *_, **__: looked_up.append(job.filename))
    assert told(planned()[0]) == [("a", 3), ("d", 3), ("g", 1)]
    assert told(planned("--shard", "1/2")[0]) == [("a", 3), ("g", 1)]
    assert not looked_up
    (tmp_path / "out" / "b.txt").unlink()
    (tmp_path / "e.wav").write_bytes(b"another sound")
    (tmp_path / "f.wav").unlink()
    jobs, _ = planned()
    assert told(jobs) == [("a", 1), ("b", "new"), ("c", 2), ("e", "new"), ("g", 1)]
    assert looked_up == ["b", "e"]  # f is told as missing
    assert [job.is_last for job in jobs] == [False] * 5


def test_the_last_input_is_known_behind_some_that_are_done(planned):
    jobs, folder = planned()
    assert [job.is_last for job in jobs] == [False] * 6 + [True]
    for job in jobs[:5]:
        answer(job, folder)
    assert [job.is_last for job in planned()[0] if not job.is_done_before] == [False, True]


def test_what_bears_another_name_or_has_a_question_of_its_own_is_passed_too(planned, tmp_path, monkeypatch):
    for name in ("ON_DISK", "SETTLED"):
        monkeypatch.setattr(seen, name, -1e6)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "c.txt").write_text("mine")
    for job in (answered := planned("-p", "who?"))[0]:
        answer(job, answered[1])
    for _ in range(2):
        assert told(planned("-p", "who?")[0]) == [("a", 3), ("d", 3), ("g", 1)]
    (tmp_path / "out" / "c.txt").unlink()  # now its own name is free, and the answers still have the other
    assert told(planned("-p", "who?")[0]) == [("a", 3), ("d", 3), ("g", 1)]
