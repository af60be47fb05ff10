"""The random checkpoint has the published names, shapes and layout, sound values and the promised outliers."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import deserialize, safe_open

from tests.benchmarks import random_checkpoint as rc
from tests.benchmarks import random_weights as rw
from tests.benchmarks.geometry import FULL, Geometry, list_tensors

REFERENCE = Path(os.environ.get("QWEN_AUDIO_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"))
SMALL = Geometry(
    hidden_size=64, intermediate_size=256, num_attention_heads=4, num_hidden_layers=2, vocab_size=640,
    audio_start_id=600, n_state=64, n_head=4, n_layer=2,
)  # fmt: skip


def load(folder):
    """All tensors of a checkpoint as float32, read through its index by the safetensors package."""
    weight_map = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    tensors = {}
    for shard in set(weight_map.values()):
        for name, entry in deserialize((folder / shard).read_bytes()):
            assert weight_map[name] == shard
            bits = np.frombuffer(entry["data"], "<u2").astype(np.uint32)
            tensors[name] = (bits << 16).view(np.float32).reshape(entry["shape"])
    assert tensors.keys() == weight_map.keys()
    return tensors


def file_bytes(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    rc.make_checkpoint(folder, SMALL, seed=5)
    return folder


@pytest.fixture(scope="module")
def with_outliers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outliers")
    rc.make_checkpoint(folder, SMALL, seed=5, outliers=True)
    return folder


@pytest.mark.reference
def test_full_size_names_and_shapes_are_the_published_ones():
    path = REFERENCE / "tensors_full_size.json"
    if not path.is_file():
        pytest.skip(f"no {path}: set QWEN_AUDIO_REFERENCE")
    expected = {name: tuple(shape) for name, shape in json.loads(path.read_text())["tensors"].items()}
    expected["transformer.audio.positional_embedding"] = (1500, 1280)  # the one buffer of the checkpoint
    assert {tensor.name: tensor.shape for tensor in list_tensors(FULL)} == expected


def test_full_size_needs_no_shard_over_2_gb():
    shards = rc.split_shards(list_tensors(FULL))
    assert len(shards) == 9
    assert max(sum(tensor.nbytes for tensor in shard) for shard in shards) <= 2e9
    assert [tensor for shard in shards for tensor in shard] == list_tensors(FULL)


def test_chunks_cover_every_row_once():
    for tensor in list_tensors(FULL):
        ranges = list(rw.chunks(tensor))
        assert [first for first, _ in ranges] == [0, *(last for _, last in ranges[:-1])]
        assert ranges[-1][1] == tensor.shape[0]


def test_layers_reduce_decoder_and_encoder(monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(rc, "make_checkpoint", lambda out, geometry, **options: made.append(geometry))
    assert rc.main([str(tmp_path), "--layers", "3"]) == 0
    assert made == [replace(FULL, num_hidden_layers=3, n_layer=3)]


def test_index_names_every_tensor_and_the_total(plain):
    index = json.loads((plain / "model.safetensors.index.json").read_text())
    tensors = list_tensors(SMALL)
    assert index["weight_map"].keys() == {tensor.name for tensor in tensors}
    assert set(index["weight_map"].values()) == {"model-00001-of-00001.safetensors"}
    assert index["metadata"]["total_size"] == sum(2 * int(np.prod(tensor.shape)) for tensor in tensors)


def test_shards_split_at_the_limit(monkeypatch, plain, tmp_path):
    monkeypatch.setattr(rc, "SHARD_BYTES", 100_000)
    rc.make_checkpoint(tmp_path, SMALL, seed=5)
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 3
    one, many = load(plain), load(tmp_path)
    assert all(np.array_equal(one[name], many[name]) for name in one)


def test_safetensors_reads_shapes_and_bfloat16(plain):
    with safe_open(plain / "model-00001-of-00001.safetensors", "np") as file:
        slices = [(name, file.get_slice(name)) for name in file.offset_keys()]
    found = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices}
    assert found == {tensor.name: (tensor.shape, "BF16") for tensor in list_tensors(SMALL)}


def test_header_is_padded_to_8_bytes(plain):
    data = (plain / "model-00001-of-00001.safetensors").read_bytes()
    assert int.from_bytes(data[:8], "little") % 8 == 0


def test_values_have_the_planned_mean_and_std(plain):
    tensors = load(plain)
    for tensor in list_tensors(SMALL):
        if tensor.name.endswith("positional_embedding"):
            continue
        values = tensors[tensor.name]
        noise = tensor.std / np.sqrt(values.size)
        assert abs(values.mean() - tensor.mean) < 5 * noise + 0.002 * tensor.mean, tensor.name
        assert abs(values.std() - tensor.std) < 5 * noise + 0.01 * tensor.std, tensor.name


def test_values_are_bell_shaped(plain):
    logit_weights = load(plain)["lm_head.weight"].ravel()
    scaled = np.sort(logit_weights) / logit_weights.std()
    within = [np.mean(np.abs(scaled) < sigma) for sigma in (1, 2, 3)]
    np.testing.assert_allclose(within, [0.6827, 0.9545, 0.9973], atol=0.01)


def test_norm_gains_are_positive(plain):
    gains = [value for name, value in load(plain).items() if "ln_" in name or "_ln" in name if name.endswith("weight")]
    assert len(gains) == 2 * 2 + 1 + 2 * 2 + 1
    assert min(gain.min() for gain in gains) > 0.4


def test_no_two_tensors_share_their_noise(plain):
    firsts = [value.ravel()[:8].tobytes() for value in load(plain).values()]
    assert len(set(firsts)) == len(firsts)


def test_chunks_of_one_tensor_differ(monkeypatch):
    monkeypatch.setattr(rw, "CHUNK_VALUES", 64 * 320)
    tensor = list_tensors(SMALL)[0]
    blocks = [rw.make_rows(tensor, first, last, seed=1) for first, last in rw.chunks(tensor)]
    assert len(blocks) == 2
    assert not np.array_equal(*blocks)


def test_positions_are_the_whisper_sinusoid(plain):
    table = load(plain)["transformer.audio.positional_embedding"]
    angles = np.arange(1500)[:, None] * 10000.0 ** (-np.arange(32) / 31)
    np.testing.assert_allclose(table, np.hstack([np.sin(angles), np.cos(angles)]), atol=4e-3)  # bfloat16 rounding


def test_bfloat16_rounds_to_nearest_even():
    values = np.array([1.0, 1 + 2**-8, 1 + 2**-8 + 2**-20, 1 + 3 * 2**-8, -1 - 3 * 2**-8, 0.0, -0.0], np.float32)
    rounded = rw.from_bfloat16(rw.to_bfloat16(values))
    np.testing.assert_array_equal(rounded, [1, 1, 1 + 2**-7, 1 + 2**-6, -1 - 2**-6, 0, 0])


def test_same_seed_gives_the_same_bytes(plain, tmp_path):
    rc.make_checkpoint(tmp_path, SMALL, seed=5)
    assert file_bytes(tmp_path) == file_bytes(plain)


def test_other_seed_gives_other_weights(plain, tmp_path):
    rc.make_checkpoint(tmp_path, SMALL, seed=6)
    one, other = load(plain), load(tmp_path)
    same = {name for name in one if np.array_equal(one[name], other[name])}
    assert same == {"transformer.audio.positional_embedding"}


def test_outliers_are_20_to_100_times_the_plain_values(plain, with_outliers):
    one, other = load(plain), load(with_outliers)
    changed = set()
    for name, values in one.items():
        ratios = np.divide(other[name], values, out=np.ones_like(values), where=values != 0)
        planted = ratios[ratios != 1]
        if planted.size:
            changed.add(name.removeprefix("transformer."))
            assert 20 <= planted.min() <= planted.max() <= 100, name
            assert planted.size <= 0.04 * values.size, name
    both = [f"{part}.{k}.{end}" for k in (0, 1) for part, end in OUTLIER_TENSORS]
    assert changed == {"wte.weight", "audio.audio_bos_eos_token.weight", "audio.proj.weight", *both}


OUTLIER_TENSORS = [
    ("h", "ln_1.weight"),
    ("h", "ln_2.weight"),
    ("h", "attn.c_proj.weight"),
    ("h", "mlp.w1.weight"),
    ("h", "mlp.c_proj.weight"),
    ("audio.blocks", "attn_ln.weight"),
    ("audio.blocks", "mlp_ln.weight"),
    ("audio.blocks", "mlp.0.weight"),
]


def test_outlier_channels_are_far_above_the_rest(with_outliers):
    tensors = load(with_outliers)
    for name, axis in [("h.0.ln_1", None), ("h.1.ln_2", None), ("wte", 0), ("h.0.mlp.c_proj", 1), ("h.1.mlp.w1", 1)]:
        values = np.abs(tensors[f"transformer.{name}.weight"])
        channels = values if axis is None else np.sqrt(np.mean(values**2, axis=axis))
        assert 20 <= channels.max() / np.median(channels) <= 100, name


def test_full_size_plants_few_channels():
    channels = rw.pick_channels(FULL, seed=1)
    assert (len(channels.gain), len(channels.stream), len(channels.state)) == (3, 3, 2)
    assert not channels.gain.keys() & channels.stream.keys()
    assert len(channels.write_layers) == 3


def test_configuration_has_the_sizes(plain):
    config = json.loads((plain / "config.json").read_text())
    assert (config["hidden_size"], config["kv_channels"], config["num_hidden_layers"]) == (64, 16, 2)
    assert config["audio"] == {
        "add_audio_bos_eos_token": True, "audio_start_id": 600, "avg_pool": True, "n_ctx": 1500, "n_head": 4,
        "n_layer": 2, "n_mels": 80, "n_state": 64, "output_dim": 64,
    }  # fmt: skip
    assert (config["layer_norm_epsilon"], config["torch_dtype"], config["bf16"]) == (1e-5, "bfloat16", True)


@pytest.mark.reference
def test_configuration_has_the_published_keys(plain):
    path = REFERENCE / "ckpt" / "tiny-a" / "config.json"
    if not path.is_file():
        pytest.skip(f"no {path}: set QWEN_AUDIO_REFERENCE")
    ours, theirs = json.loads((plain / "config.json").read_text()), json.loads(path.read_text())
    assert ours.keys() - theirs.keys() == {"made_by", "seed", "outliers"}
    assert {key for key in theirs if ours[key] != theirs[key]} == {
        "bf16",
        "fp32",
        "torch_dtype",
    }  # geometry is tiny-a's


@pytest.mark.parametrize(("options", "chat_format"), [([], "chatml"), (["--base"], None)])
def test_command_line_makes_a_tiny_checkpoint(tmp_path, capsys, options, chat_format):
    vocab = tmp_path / "some.tiktoken"
    vocab.write_text("IQ== 0\n")
    out = tmp_path / "new" / "out"
    assert rc.main([str(out), "--tiny", "--layers", "1", "--vocab", str(vocab), *options]) == 0
    assert json.loads((out / "generation_config.json").read_text()).get("chat_format") == chat_format
    assert (out / "qwen.tiktoken").read_text() == "IQ== 0\n"
    assert load(out)["transformer.wte.weight"].shape == (155947, 32)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "shard 1 of 1" in captured.err


def test_own_checkpoint_is_replaced_whole(tmp_path):
    rc.make_checkpoint(tmp_path, SMALL, seed=1)
    (tmp_path / "model-00003-of-00009.safetensors").write_bytes(b"stale")
    (tmp_path / "notes.txt").write_text("mine")
    rc.make_checkpoint(tmp_path, SMALL, seed=2)
    assert [path.name for path in sorted(tmp_path.glob("model*"))] == [
        "model-00001-of-00001.safetensors",
        "model.safetensors.index.json",
    ]
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize("config", [None, '{"model_type": "qwen"}', "[]", "no json"])
def test_foreign_folder_is_refused(tmp_path, capsys, config):
    (tmp_path / "model-00001-of-00009.safetensors").write_bytes(b"precious")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    before = file_bytes(tmp_path)
    assert_refused(capsys, [str(tmp_path), "--tiny"], "new or empty folder")
    assert file_bytes(tmp_path) == before


def test_file_as_folder_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert_refused(capsys, [str(tmp_path / "file"), "--tiny"], "not a folder")


def test_full_disk_is_refused_before_writing(tmp_path, capsys, monkeypatch):
    class Usage:
        free = 10_000_000_000

    monkeypatch.setattr(rc.shutil, "disk_usage", lambda path: Usage)
    assert_refused(capsys, [str(tmp_path)], "needs 16.9 GB")
    assert not list(tmp_path.iterdir())


def test_missing_vocabulary_is_refused_before_writing(tmp_path, capsys):
    assert_refused(capsys, [str(tmp_path / "out"), "--tiny", "--vocab", str(tmp_path / "none")], "no such vocabulary")
    assert not (tmp_path / "out").exists()


def test_failed_write_leaves_no_half_shard(tmp_path, capsys, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rc.os, "pwrite", full)
    assert_refused(capsys, [str(tmp_path), "--tiny"], "No space left")
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "generation_config.json"}


@pytest.mark.parametrize("options", [["--layers", "0"], ["--layers", "x"], ["--seed", "-1"]])
def test_bad_numbers_are_refused(tmp_path, options):
    with pytest.raises(SystemExit) as stop:
        rc.main([str(tmp_path), *options])
    assert stop.value.code == 2


def assert_refused(capsys, argv, reason):
    assert rc.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert reason in captured.err
    assert captured.err.count("\n") == 1
