"""The speed benchmark's bookkeeping: turns, ratios by round, what is left out. The contestants are played."""

import json
import sys

import pytest

from tests.benchmarks import contestants, memory, speed
from tests.benchmarks.speed import OPENING, Measure, interpreters, measures, run_openings, run_phase, table

pytestmark = pytest.mark.slow


class Player:
    """Answers each call with the next of `seconds`; `asked` is shared by all, in order."""

    def __init__(self, name, seconds, asked):
        self.name, self._seconds, self._asked = name, iter(seconds), asked

    def do(self, *call):
        if call[0] in ("opened", "peak_memory"):
            return 1.0
        self._asked.append((self.name, *call))
        return 1e9 if call[0] == "read" else next(self._seconds)

    def close(self):
        self._asked.append((self.name, "closed"))


ONE = Measure("decode, 1 row", dict.fromkeys(("ours", "llama.cpp"), ("decode", 1)), 1)


def play(ours, theirs, rounds=3, wanted=(ONE,)):
    asked = []
    players = [Player("memory", [], asked), Player("ours", ours, asked), Player("llama.cpp", theirs, asked)]
    return run_phase(players, list(wanted), rounds), asked


def test_the_first_round_warms_up_and_the_order_changes_from_round_to_round():
    found, asked = play([9, 1, 2, 3], [9, 2, 3, 9])
    assert found["decode, 1 row", "ours"] == [1, 2, 3]
    order = [name for name, *call in asked if call == ["decode", 1]]
    assert order == ["llama.cpp", "ours", "ours", "llama.cpp", "llama.cpp", "ours", "ours", "llama.cpp"]
    assert [name for name, *call in asked if call == ["closed"]] == ["memory", "ours", "llama.cpp"]


def test_a_ratio_is_the_median_of_the_rounds_own():
    """A slow round slows both, so what they took is held against each other round by round."""
    found, _ = play([9, 1, 10, 3], [9, 2, 15, 9])
    (row,) = table(found, [ONE], weights=10**9)
    assert row["ratio"] == {"llama.cpp": 2.0}  # of 2, 1.5 and 3
    assert row["seconds"] == {"ours": 3, "llama.cpp": 9}
    assert row["of_bandwidth"] == pytest.approx(1 / 3, abs=0.01)


def test_openings_are_timed_one_process_at_a_time():
    asked, times = [], {"ours": iter([9, 1, 2, 4]), "llama.cpp": iter([9, 2, 6, 6])}

    class Opener(Player):
        def do(self, *call):
            asked.append((self.name, *call))
            return next(times[self.name])

    starts = {name: lambda name=name: Opener(name, [], asked) for name in times}
    found = run_openings(starts, OPENING, 3)
    assert found == {("opening", "ours"): [1, 2, 4], ("opening", "llama.cpp"): [2, 6, 6]}
    calls = [(name, "opened") for name in ("llama.cpp", "ours", "ours", "llama.cpp") * 2]
    assert asked == [call for one in calls for call in (one, (one[0], "closed"))]
    (row,) = table(found, [OPENING], weights=1)
    assert row["ratio"] == {"llama.cpp": 2.0}


def test_two_peers_that_do_one_work_together_are_added():
    whole = Measure("6 s clip", {"ours": ("answer",), "llama.cpp": ("answer",), "CTranslate2": ("encode",)})
    asked = []
    players = [Player("memory", [], asked), Player("ours", [1, 2, 2], asked), Player("llama.cpp", [1, 3, 3], asked)]
    found = run_phase([*players, Player("CTranslate2", [1, 1, 1], asked)], [whole], 2)
    assert table(found, [whole], weights=1)[0]["ratio"] == {"both": 2.0}


def test_a_peer_that_is_not_there_is_left_out():
    asked = []
    found = run_phase([Player("memory", [], asked), Player("ours", [1, 1, 1], asked)], [ONE], 2)
    assert table(found, [ONE], weights=1)[0]["ratio"] == {}


def test_interpreters_are_asked_for_the_modules(tmp_path):
    assert interpreters([str(tmp_path / "no python")] * 0 + [sys.executable]).keys() <= speed.MODULES.keys()


def test_every_call_names_a_method_of_its_contestant():
    for measure in [*measures(rows=False), *measures(rows=True)]:
        for name, (method, *_) in measure.calls.items():
            assert hasattr(contestants.RUNNERS[name.split()[0]], method)


def test_a_contestant_answers_over_its_pipe():
    reader = contestants.Contestant("memory", threads=1)
    assert reader.do("read") > 1e8  # bytes a second
    assert reader.do("peak_memory") > 5e8
    reader.close()


def test_a_contestant_that_cannot_start_ends_the_run():
    missing = contestants.Contestant("ours", model="/nowhere", threads=1)
    with pytest.raises(SystemExit, match="ours ended with exit code 1 in opened"):
        missing.do("opened")


def test_the_memory_of_a_whole_command_is_measured(demo_model, monkeypatch, capsys):
    monkeypatch.setattr(memory, "RUNS", {"1 s": (1, 1, 2), "3 of 1 s side by side": (3, 1, 2)})
    assert memory.main(["--model", str(demo_model)]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [(row["run"], row["model"]) for row in found["rows"]] == [(run, demo_model.name) for run in memory.RUNS]
    assert all(0.05 < row["peak_gb"] < 2 for row in found["rows"])


def test_a_command_that_fails_is_not_measured(tmp_path):
    with pytest.raises(SystemExit, match="failed with exit code 3"):
        memory.measure(tmp_path / "nowhere", 1, 1, 1)


def test_a_line_says_which_packages_an_interpreter_lacks(monkeypatch, capsys):
    monkeypatch.setitem(speed.MODULES, "llama.cpp", ("numpy", "no_such_package"))
    found = interpreters([sys.executable, "/no/python"])
    assert "llama.cpp" not in found
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("llama.cpp"))
    assert f"{sys.executable} lacks no_such_package;" in line
    assert "/no/python lacks numpy, no_such_package" in line
