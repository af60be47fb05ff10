"""Models small enough to be made, converted and run within a test, and the golden cases of the original's tiny ones."""

import json
from dataclasses import dataclass, field

import numpy as np

from audio_encoder.encoder import AudioEncoder
from decoder.decoder import Decoder
from decoder.generate import generate
from models.runtime.session import SessionOptions
from tests.benchmarks.geometry import Geometry
from tests.benchmarks.random_checkpoint import make_checkpoint

# Single-sequence cases of the golden models: (checkpoint, case).
CASES = [
    ("tiny-a", "a_30s"),
    ("tiny-a", "a_short"),
    ("tiny-a", "a_text"),
    ("tiny-a", "a_two_audio"),
    ("tiny-a", "a_two_turn"),
    ("tiny-long", "l_text200"),
    ("tiny-long", "l_text50"),
    ("tiny-long", "l_text65"),
    ("tiny-long", "l_two_audio"),
]
FLAVOURS = ("fused", "plain")
PAIRS = [("fp32", "fused"), ("fp16", "fused"), ("int8-fine", "fused"), ("int8", "fused"), ("int4", "fused"),
         ("fp32", "plain"), ("fp16", "plain"), ("int8", "plain"),
         ("fp16", "cuda"), ("int8", "cuda"), ("int4", "cuda")]  # fmt: skip
# head_dim 8, which the fused graph pads to 16; NTK and LogN start beyond 16 positions.
TINY = Geometry(hidden_size=32, intermediate_size=96, num_attention_heads=4, num_hidden_layers=2, vocab_size=320,
                seq_length=16, audio_start_id=300, n_state=32, n_head=2, n_layer=2, n_mels=16, n_ctx=40)  # fmt: skip
PAD = 290
# Named in every test: "auto" would try ailia first on a plain model, and that looks for a licence over the network.
ONNX_RUNTIME = SessionOptions(backend="onnxruntime", threads=1)
BITS = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


def make_tiny(folder, *, seed=1, geometry=TINY, **config):
    """A random checkpoint in `folder`; `config` overrides keys of its config.json."""
    make_checkpoint(folder, geometry, seed=seed)
    edit_json(folder / "config.json", **{"max_position_embeddings": 1024, **config})
    return folder


def edit_json(path, **changes):
    """Set keys of a JSON object in a file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def read_tensors(file):
    """One safetensors file as {name: (stored type, array of the stored bits)}."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = (8 + length + offset for offset in entry["data_offsets"])
            bits = np.frombuffer(data[first:last], BITS[entry["dtype"]]).reshape(entry["shape"])
            tensors[name] = (entry["dtype"], bits)
    return tensors


def write_tensors(file, tensors):
    """The inverse of `read_tensors`."""
    header, end = {}, 0
    for name, (stored, bits) in tensors.items():
        header[name] = {"dtype": stored, "shape": list(bits.shape), "data_offsets": [end, end + bits.nbytes]}
        end += bits.nbytes
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(bits.tobytes() for _, bits in tensors.values()))


def as_stored(bits, stored):
    """bfloat16 bits as another stored type (float16 rounds)."""
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    return stored, bits if stored == "BF16" else values.astype(BITS[stored])


def to_single_file(folder, stored="BF16"):
    """Turn a sharded bfloat16 checkpoint into one model.safetensors without an index."""
    tensors = {}
    for shard in sorted(folder.glob("model-*.safetensors")):
        tensors |= {name: as_stored(bits, stored) for name, (_, bits) in read_tensors(shard).items()}
        shard.unlink()
    (folder / "model.safetensors.index.json").unlink()
    write_tensors(folder / "model.safetensors", tensors)
    return folder


def edit_tensors(folder, change):
    """Let `change` alter the tensors {name: (stored, bits)} of a checkpoint of one file."""
    tensors = read_tensors(folder / "model.safetensors")
    change(tensors)
    write_tensors(folder / "model.safetensors", tensors)


def make_prompt(seed, n_text, spans=()):
    """Text ids with one <audio>…</audio> span of each length of `spans` among them."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 256, n_text).tolist()
    for span in spans:
        at = int(rng.integers(0, n_text // 2)) if len(spans) == 1 else len(ids)
        ids[at:at] = [TINY.audio_start_id, *[PAD] * (span - 2), TINY.audio_start_id + 1]
    return ids


def make_mels(seed, frames, geometry=TINY):
    """Random log-mels of the lengths `frames`, as `log_mel_spectrogram` gives them."""
    rng = np.random.default_rng(seed)
    shape = (geometry.n_mels, 2 * geometry.n_ctx)
    return [(rng.normal(0, 0.5, shape).astype(np.float32), n) for n in frames]


def open_encoder(manifest, options=ONNX_RUNTIME):
    """The encoder of a model on ONNX Runtime."""
    return AudioEncoder(manifest, options)


def open_decoder(manifest, options=ONNX_RUNTIME):
    """The decoder of a model on ONNX Runtime."""
    return Decoder(manifest, options)


def greedy(decoder, ids, clips=(), *, n=24, stop_ids=()):
    """The first `n` greedy ids, as a list."""
    return list(generate(decoder, ids, clips, stop_ids=stop_ids, max_new_tokens=n))


def forced(decoder, ids, clips, new_ids):
    """Logits [n, vocab] that each of `new_ids` is chosen from, when all before it are given."""
    rows = [decoder.prefill(ids, clips)]
    rows += [decoder.step(int(new_id)) for new_id in new_ids[:-1]]
    return np.stack(rows)


def assert_same_choice(found, expected, *, atol):
    """Logits [n, vocab] agree, and so do the chosen ids wherever the expected margin exceeds the noise."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
    best = np.sort(expected, axis=-1)
    clear = best[:, -1] - best[:, -2] > 2e-3
    assert clear.any()
    np.testing.assert_array_equal(found.argmax(-1)[clear], expected.argmax(-1)[clear])


@dataclass
class Case:
    """A golden case of the original: its arrays, and the log-mels of its clips."""

    arrays: dict
    mels: list = field(default_factory=list)

    def __getitem__(self, name):
        return self.arrays[name]

    @property
    def atol(self):
        """The limit for logits that the reference's README gives."""
        return 3e-4 if self["input_ids"].shape[-1] <= 100 else 1e-3


def reference_mels(reference, names):
    """The original's log-mels of these clips."""
    clips = json.loads((reference / "audio" / "clips.json").read_text())
    with np.load(reference / "audio" / "mels.npz") as mels:
        return [(mels[name], clips[name]["mel_len"]) for name in names]


def reference_case(reference, checkpoint, name):
    """A case of the large golden set."""
    path = reference / "model" / checkpoint / name
    clips = json.loads(path.with_suffix(".json").read_text()).get("clips", [])
    flat = [clip for row in clips for clip in ([row] if isinstance(row, str) else row)]
    with np.load(path.with_suffix(".npz")) as arrays:
        return Case(dict(arrays), reference_mels(reference, flat))
