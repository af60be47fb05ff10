"""The rules of the house, read from the source: who imports whom, where libraries may be imported, what must not exist."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "qwen_audio": {"cli", "audio_encoder", "decoder", "tokenizer", "models"},
    "cli": {"cli", "audio_encoder", "decoder", "tokenizer", "models"},
    "audio_encoder": {"audio_encoder", "models"},
    "decoder": {"decoder", "models"},
    "tokenizer": {"tokenizer"},
    "models": {"models"},
}
# Training reads the run-time rooms that it trains for: the same log-mel, the same prompts. Nothing imports it.
TRAINING = Path("models/nano/train")
LATE = {"transformers", "librosa", "soundfile", "soxr", "tiktoken", "requests", "huggingface_hub", "tqdm"}
SOURCES = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "qwen_audio.py", *(path for room in ROOMS for path in (ROOT / room).rglob("*.py")))
)
TESTS = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))


def imports(path):
    """(top-level package, whether at module level) of every import of a file; type-only imports do not count."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found = []

    def visit(node, *, top):
        if isinstance(node, ast.Import):
            found.extend((alias.name.split(".")[0], top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            found.append((node.module.split(".")[0], top))
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        inner = top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, top=inner)

    visit(tree, top=True)
    return found


def names(path):
    return {name for name, _ in imports(path)}


def test_the_rooms_are_all_there():
    assert {path.parts[0] for path in SOURCES} == {"qwen_audio.py", *ROOMS.keys() - {"qwen_audio"}}
    assert len(SOURCES) > 20


def test_imports_are_read_at_every_depth(tmp_path):
    code = "import a.b\nfrom c.d import e\nif TYPE_CHECKING:\n    import f\ndef g():\n    import h\nclass I:\n    import j\n"
    (tmp_path / "x.py").write_text(code)
    assert imports(tmp_path / "x.py") == [("a", True), ("c", True), ("h", False), ("j", True)]


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_room_imports_only_the_rooms_below_it(path):
    allowed = (
        {"models", "audio_encoder", "decoder", "tokenizer"}
        if path.is_relative_to(TRAINING)
        else ROOMS[path.parts[0].removesuffix(".py")]
    )
    assert names(path) & {*ROOMS, "tests"} <= allowed


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_backend_is_imported_in_its_own_module_and_inside_functions(path):
    found = {(name, top) for name, top in imports(path) if name in {"ailia", "onnxruntime"}}
    assert found <= ({(path.stem, False)} if path.parent == Path("models/runtime") else set())


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_onnx_is_imported_by_the_converter_only(path):
    assert "onnx" not in names(path) or path.is_relative_to("models/convert")


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_torch_is_imported_by_training_code_only(path):
    assert "torch" not in names(path) or path.is_relative_to("models/nano")


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_heavy_packages_are_imported_where_they_are_used(path):
    assert {name for name, top in imports(path) if top} & LATE == set()


def test_the_entry_stays_one_screen():
    assert len((ROOT / "qwen_audio.py").read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=str)
def test_no_file_is_named_after_nothing(path):
    assert path.stem not in {"utils", "util", "common", "helpers", "helper", "misc", "tools", "base"}


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_nothing_runs_code_from_data(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert not names(path) & {"pickle", "marshal", "shelve", "dill", "joblib"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in {"eval", "exec", "compile", "__import__", "os.system"}
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert "trust_remote_code" not in keywords
            assert keywords.get("allow_pickle", "False") == "False"
            assert keywords.get("shell", "False") == "False"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_arrays_are_loaded_without_pickle(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    loads = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.load"]
    assert all("allow_pickle" in {keyword.arg for keyword in node.keywords} for node in loads)


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_the_path_of_python_is_left_alone(path):
    assert "sys.path" not in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_no_class_is_a_manager_or_factory(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    classes = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert not [name for name in classes if name.endswith(("Manager", "Factory", "Helper", "Utils"))]


def test_git_tracks_no_weights_outside_the_golden_data():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    weights = [
        name for name in listed.stdout.split() if name.endswith((".onnx", ".safetensors", ".data", ".pb", ".bin"))
    ]
    assert [name for name in weights if not name.startswith(("tests/golden/", "models/nano/"))] == []
