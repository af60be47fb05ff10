"""Memory and processor, read from what Linux says of itself; a container's limit counts."""

import os

import pytest

from cli.doctor.machine import memory, processor

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         100000 kB\nMemAvailable:    9000000 kB\nSwapTotal: 5 kB\n"
TOTAL, AVAILABLE = 16_000_000 * 1024, 9_000_000 * 1024
INTEL = (
    "processor\t: 0\nmodel name\t: A Xeon\nflags\t\t: fpu sse4_1 avx avx2 avx512f avx512_vnni ht\n\nprocessor\t: 1\n"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd crc32 asimddp i8mm\nCPU part\t: 0xd40\n"
GB = 10**9


@pytest.fixture
def system(tmp_path):
    """system(path in the root of a system=content, ...) -> that root."""

    def system(files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path

    return system


def test_memory_is_what_the_system_says(system):
    assert memory(system({"proc/meminfo": MEMINFO})) == (TOTAL, AVAILABLE)


def test_this_machine_has_memory_and_cores():
    total, available = memory()
    assert total > available > 0
    name, cores, _ = processor()
    assert name
    assert 1 <= cores <= os.cpu_count()


def test_a_system_that_tells_nothing_is_no_failure(system):
    assert memory(system({})) == (None, None)
    name, cores, features = processor(system({}))
    assert isinstance(name, str)
    assert cores >= 1
    assert features == []


@pytest.mark.parametrize(
    ("groups", "found"),
    [
        ({"memory.max": "max\n", "memory.current": "5\n"}, (TOTAL, AVAILABLE)),
        ({"memory.max": f"{4 * GB}", "memory.current": f"{GB}"}, (4 * GB, 3 * GB)),
        # What is cached of files makes room for others.
        ({"memory.max": f"{4 * GB}", "memory.current": f"{4 * GB}", "memory.stat": f"anon 1\nfile {GB}\n"}, (4 * GB, GB)),
        ({"memory.max": f"{64 * GB}", "memory.current": "0"}, (TOTAL, AVAILABLE)),  # more than there is
        ({"memory.max": f"{12 * GB}", "memory.current": "0"}, (12 * GB, AVAILABLE)),  # others use the machine too
        ({"a/b/memory.max": f"{2 * GB}", "a/b/memory.current": f"{GB}", "a/memory.max": "max"}, (2 * GB, GB)),
        ({"a/b/memory.max": "max", "a/memory.max": f"{2 * GB}", "a/memory.current": "0"}, (2 * GB, 2 * GB)),
        ({"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "7"}, (TOTAL, AVAILABLE)),
        (
            {
                "memory/c/memory.limit_in_bytes": f"{3 * GB}",
                "memory/c/memory.usage_in_bytes": f"{2 * GB}",
                "memory/c/memory.stat": f"cache 1\ntotal_cache {GB}\n",
            },
            (3 * GB, 2 * GB),
        ),
    ],
)  # fmt: skip
def test_a_limit_of_the_control_group_counts(system, groups, found):
    own = {"proc/meminfo": MEMINFO, "proc/self/cgroup": "4:memory:/c\n1:cpu:/x\n0::/a/b\n"}
    assert memory(system(own | {f"sys/fs/cgroup/{name}": text for name, text in groups.items()})) == found


@pytest.mark.parametrize(
    ("text", "features"),
    [(INTEL, ["sse4_1", "avx", "avx2", "avx512f", "avx512_vnni"]), (ARM, ["asimd", "asimddp", "i8mm"])],
)
def test_features_are_those_that_kernels_choose_by(system, text, features):
    name, _, found = processor(system({"proc/cpuinfo": text}))
    assert found == features
    assert name == "A Xeon" or text is ARM
