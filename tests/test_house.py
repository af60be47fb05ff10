"""The rules of the house, read from the source: who imports whom, where libraries may be imported, what must not exist.

A rule is one test that goes through all files and names every offender.
"""

import ast
import functools
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "errors": set(),
    "qwen_audio": {"errors", "audio_encoder", "decoder", "tokenizer", "models"},
    "cli": {"errors", "qwen_audio", "cli", "audio_encoder", "decoder", "tokenizer", "models"},
    "audio_encoder": {"errors", "audio_encoder", "models"},
    "decoder": {"errors", "decoder", "models"},
    "tokenizer": {"errors", "tokenizer"},
    "models": {"errors", "models"},
}
# Within a room: what may import what, for those parts that have an order.
PARTS = {
    "models.runtime": {"models.runtime", "models.manifest"},
    "models.server": {"models.server", "models.runtime", "models.manifest"},
    "models.convert": {
        "models.convert",
        "models.interrupts",
        "models.manifest",
        "models.metadata",
        "models.rotary",
        "models.runtime",
    },
    "models.download": {"models.download", "models.interrupts", "models.metadata"},
    "cli.score": {"cli.score", "cli.inputs", "cli.output"},
    "cli.inputs": {"cli.inputs", "cli.options", "cli.flags"},
    "cli.output": {"cli.output", "cli.inputs", "cli.options", "cli.errors", "cli.flags"},
}
# Training reads the run-time rooms that it trains for: the same log-mel, the same prompts. Nothing imports it.
TRAINING = Path("models/nano/train")
# Calibration reads them too, in one file: it must see the prompts and the log-mel that the model will.
CALIBRATION = Path("models/convert/calibration_set.py")
LATE = {
    "transformers",
    "librosa",
    "soundfile",
    "av",
    "tiktoken",
    "requests",
    "httpx2",
    "huggingface_hub",
    "shtab",
    "jinja2",
    "tqdm",
    "jiwer",
    "sacrebleu",
    "whisper_normalizer",
    "sklearn",
    "pycocoevalcap",
    "ray",
}
AT_THE_SEAM = {Path("models/runtime") / name for name in ("onnxruntime.py", "ailia.py")}
LATE_THEMSELVES = {  # imported inside functions
    *(Path("models/download") / name for name in ("hub.py", "fetch.py")),
    *(Path("audio_encoder") / name for name in ("pcm.py", "media.py", "mixing.py", "sndfile.py")),
}
SOURCES = sorted(
    path.relative_to(ROOT)
    for path in (
        *(ROOT / f"{name}.py" for name in ROOMS if (ROOT / f"{name}.py").is_file()),
        *(path for room in ROOMS for path in (ROOT / room).rglob("*.py")),
    )
)
TESTS = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))


@functools.cache
def tree(path):
    """The syntax tree of a file."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imports(parsed):
    """(module, whether at module level) of every import of a tree; type-only imports do not count."""
    found = []

    def visit(node, *, top):
        if isinstance(node, ast.Import):
            found.extend((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            found.append((node.module, top))
            found.extend((f"{node.module}.{alias.name}", top) for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "__name__ == '__main__'"}:
            return
        inner = top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, top=inner)

    visit(parsed, top=True)
    return found


def packages(path, *, top_only=False):
    return {name.split(".")[0] for name, top in imports(tree(path)) if top or not top_only}


def module(path):
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def is_training(path):
    return path.is_relative_to(TRAINING)


def calls(path):
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]


def test_the_rooms_are_all_there():
    assert {path.parts[0].removesuffix(".py") for path in SOURCES} == set(ROOMS)
    assert len(SOURCES) > 60


def test_imports_are_read_at_every_depth():
    code = "import a.b\nfrom c.d import e\nif TYPE_CHECKING:\n    import f\ndef g():\n    import h\nclass I:\n    import j\n"
    assert imports(ast.parse(code)) == [("a.b", True), ("c.d", True), ("c.d.e", True), ("h", False), ("j", True)]


def test_a_room_imports_only_the_rooms_below_it():
    training = {"errors", "models", "audio_encoder", "decoder", "tokenizer", "qwen_audio", "cli"}
    above = {}
    for path in SOURCES:
        allowed = training if is_training(path) else ROOMS[path.parts[0].removesuffix(".py")]
        if path == CALIBRATION:
            allowed = allowed | {"audio_encoder", "tokenizer"}
        if extra := packages(path) & {*ROOMS, "tests"} - allowed:
            above[path] = extra
    assert above == {}


def test_within_a_room_imports_go_one_way():
    wrong = []
    for path in SOURCES:
        for part, allowed in PARTS.items():
            if module(path).startswith(part):
                room = part.split(".")[0]
                names = {name for name, _ in imports(tree(path)) if name.startswith(f"{room}.")}
                wrong += [(str(path), name) for name in names if not name.startswith(tuple(allowed))]
    assert wrong == []


def test_no_files_import_each_other_in_a_circle():
    modules = {module(path): path for path in SOURCES if not is_training(path)}
    graph = {name: {one for one, _ in imports(tree(path)) if one in modules} for name, path in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
        circle = []
    except CycleError as error:
        circle = error.args[1]
    assert circle == []


def test_libraries_are_imported_where_they_belong():
    wrong = []
    for path in SOURCES:
        if not is_training(path):
            names = packages(path)
            wrong += [(str(path), name) for name in names & {"torch", "librosa", "transformers"}]
            wrong += [(str(path), "onnx") for _ in names & {"onnx"} if not path.is_relative_to("models/convert")]
            seam = names & {"ailia", "onnxruntime"}
            wrong += [(str(path), name) for name in seam if path not in AT_THE_SEAM]
            early = packages(path, top_only=True) & {*LATE, "ailia", "onnxruntime"}
            wrong += [(str(path), name) for name in early if path not in LATE_THEMSELVES]
    assert wrong == []


def test_the_entry_stays_one_screen():
    assert len((ROOT / "qwen_audio.py").read_text(encoding="utf-8").splitlines()) <= 225


def test_files_and_functions_stay_short():
    long = [str(path) for path in SOURCES if len((ROOT / path).read_text(encoding="utf-8").splitlines()) > 300]
    for path in SOURCES:
        if is_training(path):
            continue
        functions = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)]
        long += [f"{path}:{one.name}" for one in functions if one.end_lineno - one.lineno >= 50]
    assert long == []


def test_names_say_something():
    empty = {"utils", "util", "common", "helpers", "helper", "misc", "tools", "base"}
    assert [str(path) for path in (*SOURCES, *TESTS) if path.stem in empty] == []
    classes = [node.name for path in SOURCES for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)]
    assert [name for name in classes if name.endswith(("Manager", "Factory", "Helper", "Utils"))] == []


def test_nothing_runs_code_from_data():
    wrong = []
    for path in SOURCES:
        wrong += [f"{path}: {name}" for name in packages(path) & {"pickle", "marshal", "shelve", "dill", "joblib"}]
        for call in calls(path):
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            name = ast.unparse(call.func)
            is_wrong = (
                name in {"eval", "exec", "compile", "__import__", "os.system"}
                or "trust_remote_code" in keywords
                or keywords.get("allow_pickle", "True" if name == "np.load" else "False") != "False"
                or keywords.get("shell", "False") != "False"
            )
            wrong += [f"{path}:{call.lineno}: {name}"] * is_wrong
    assert wrong == []


def test_the_path_of_python_is_left_alone():
    """But in the entry, for a Python that was told not to look beside it (-P, -I)."""
    assert [str(path) for path in SOURCES if "sys.path" in (ROOT / path).read_text(encoding="utf-8")] == [
        "qwen_audio.py"
    ]


def test_the_script_header_lists_the_requirements():
    """`uv run qwen_audio.py` installs what PEP 723 names there: the same as requirements.txt."""
    block = (ROOT / "qwen_audio.py").read_text(encoding="utf-8").split("# /// script\n")[1].split("# ///\n")[0]
    header = tomllib.loads("\n".join(line.removeprefix("# ") for line in block.splitlines()))
    wanted = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert header["dependencies"] == [line for line in wanted if line]


def test_git_tracks_no_weights_outside_the_golden_data():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    weights = [
        name for name in listed.stdout.split() if name.endswith((".onnx", ".safetensors", ".data", ".pb", ".bin"))
    ]
    assert [name for name in weights if not name.startswith(("tests/golden/", "models/nano/"))] == []


def test_help_starts_nothing_heavy():
    """What `--help` and a wrong flag import, all of it, has none of the packages that take long."""
    code = "import sys; sys.argv = ['q', '--nonsense']; import cli.main; cli.main.main(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {name.split(".")[0] for name in run.stdout.split()} & {*LATE, "numpy", "onnxruntime", "ailia"} == set()
