"""How many cores may be used: bound processors, threads of one core, and what a control group grants."""

import os
import platform

import pytest

from models.runtime.cpu import may_saturate, thread_limit, usable_cores
from models.runtime.onnxruntime import OnnxRuntimeSession
from models.runtime.session import SessionOptions, open_session

TOPOLOGY = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


@pytest.fixture
def system(tmp_path, monkeypatch):
    """system({path: content}, processors that the process is bound to) -> that root."""

    def system(files, bound=range(8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(bound), raising=False)
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path

    return system


def siblings(*pairs):
    return {TOPOLOGY.format(one): f"{','.join(map(str, pair))}\n" for pair in pairs for one in pair}


def test_a_system_that_tells_nothing_of_its_cores_is_taken_by_its_processors(system):
    assert usable_cores(system({})) == 8


def test_two_threads_of_a_core_count_once(system):
    assert usable_cores(system(siblings((0, 4), (1, 5), (2, 6), (3, 7)))) == 4


def test_a_bound_process_has_the_cores_that_it_is_bound_to(system):
    root = system(siblings((0, 4), (1, 5), (2, 6), (3, 7)), bound={0, 4, 1})
    assert usable_cores(root) == 2


@pytest.mark.parametrize(
    ("groups", "cores"),
    [
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),  # a part of a core is one more
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),  # more than there is
        ({"a/b/cpu.max": "400000 100000", "a/cpu.max": "300000 100000"}, 3),  # the narrowest counts
        ({"cpu/c/cpu.cfs_quota_us": "-1", "cpu/c/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu/c/cpu.cfs_quota_us": "500000", "cpu/c/cpu.cfs_period_us": "100000"}, 5),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),  # seen from within a container
        ({"cpu.max": "nonsense"}, 8),
    ],
)
@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
def test_a_limit_of_the_control_group_counts(system, groups, cores, controllers):
    own = {"proc/self/cgroup": f"4:memory:/m\n1:{controllers}:/c\n0::/a/b\n"}
    assert usable_cores(system(own | {f"sys/fs/cgroup/{name}": text for name, text in groups.items()})) == cores


def test_where_the_system_does_not_tell_the_library_chooses(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cores(tmp_path) is None
    assert thread_limit(tmp_path) == 0


def test_the_library_chooses_unless_fewer_cores_may_be_used_than_there_are(system, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    pairs = siblings((0, 4), (1, 5), (2, 6), (3, 7))
    assert thread_limit(system(pairs)) == 0
    assert thread_limit(system(pairs, bound={0, 1, 2, 3})) == 0  # one thread of each core is all of them
    assert thread_limit(system(pairs, bound={0, 4, 1})) == 2
    assert thread_limit(system({"sys/fs/cgroup/cpu.max": "300000 100000"})) == 3


@pytest.mark.parametrize(("asked", "told", "given"), [(0, 3, 3), (5, 3, 5), (0, 0, 0)])
def test_a_session_gets_as_many_threads(tiny, monkeypatch, asked, told, given):
    seen = []
    monkeypatch.setattr("models.runtime.session.thread_limit", lambda: told)
    monkeypatch.setattr(
        OnnxRuntimeSession, "__init__", lambda _self, _m, _g, options, _rows: seen.append(options.threads)
    )
    manifest = tiny("fp32")
    open_session(manifest, manifest.encoder, SessionOptions(threads=asked))
    assert seen == [given]


@pytest.mark.parametrize(
    ("machine", "flags", "may"),
    [
        ("x86_64", "flags\t\t: fpu avx2 avx512f avx512_vnni amx_int8", False),
        ("x86_64", "flags\t\t: fpu avx2 avx_vnni", False),
        ("x86_64", "flags\t\t: fpu avx2 avx512f", True),
        ("AMD64", None, True),  # Windows does not tell
        ("aarch64", "Features\t: fp asimd", False),
    ],
)
def test_sums_may_saturate_on_an_x86_without_vnni(system, monkeypatch, machine, flags, may):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert may_saturate(system({"proc/cpuinfo": flags} if flags else {})) == may
