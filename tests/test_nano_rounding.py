"""`rounding` and `eight_bits`: a decoder in 8 bits whose outputs err little."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training nano needs torch")

from models.nano.train import export, rounding  # noqa: E402
from models.nano.train.batches import Batch  # noqa: E402
from models.nano.train.eight_bits import eight_bit, eight_bit_near, from_eight_bits  # noqa: E402
from models.nano.train.model import Nano, Sizes, rotary_tables  # noqa: E402

DICE = np.random.default_rng(0)


def test_outputs_err_less_than_rounded_to_nearest_and_the_scales_stay():
    values = DICE.standard_normal((48, 96)).astype(np.float32)
    inputs = DICE.standard_normal((2000, 6)) @ DICE.standard_normal((6, 96)) + 0.1 * DICE.standard_normal((2000, 96))
    inputs = inputs.astype(np.float32)
    nearest, near = eight_bit("w", values), eight_bit_near("w", values, inputs.T @ inputs)
    assert near["w"].dtype == np.int8
    assert near["w"].shape == values.shape
    assert np.allclose(near["w.scales"], nearest["w.scales"])
    errors = [np.square(inputs @ (from_eight_bits(one)["w"] - values).T).mean() for one in (near, nearest)]
    assert errors[0] < 0.2 * errors[1]


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    return Nano(Sizes(vocab_size=300, audio_start=299, n_layer=2)).eval()


@pytest.fixture(scope="module")
def batch():
    ids = torch.randint(0, 299, (2, 12))
    return Batch(
        ids=ids,
        targets=ids.roll(-1, 1),
        weights=torch.ones(2, 12),
        features=torch.randn(5, 512),
        places=torch.tensor([2, 3, 4, 14, 15]),
        ends=(torch.tensor([1, 13]), torch.tensor([5, 16])),
        clips=torch.tensor([3, 2]),
        clean=torch.randn(5, 512),
        read=torch.zeros(0, 5, dtype=torch.int64),
        tasks=["event", "event"],
    )


def test_moments_are_those_of_what_each_matrix_meets(decoder, batch):
    found = rounding.moments(decoder, iter([batch, batch]), 2)
    layer = ("attn.c_attn", "attn.c_proj", "mlp.w1", "mlp.w2", "mlp.c_proj")
    assert sorted(found) == sorted(f"transformer.h.{number}.{name}.weight" for number in (0, 1) for name in layer)
    with torch.inference_mode():
        x = decoder.embed(batch.ids, batch.features, batch.places, batch.ends)
        rows = decoder.transformer.h[0].ln_1(x).flatten(0, 1)
        second = decoder.transformer.h[0](x, rotary_tables(torch.arange(12), decoder.sizes))
        later = decoder.transformer.h[1].ln_1(second).flatten(0, 1)
    for number, one in enumerate((rows, later)):
        wanted = 2 * one.T @ one
        assert torch.allclose(torch.from_numpy(found[f"transformer.h.{number}.attn.c_attn.weight"]), wanted, rtol=1e-3)


def test_an_export_with_moments_answers_nearer_than_one_without(decoder, batch):
    weights = {name: value.detach().numpy() for name, value in decoder.named_parameters() if ".h." in name}
    found = rounding.moments(decoder, iter([batch]), 1)
    with torch.inference_mode():
        x = decoder.embed(batch.ids, batch.features, batch.places, batch.ends)
        wanted = decoder.hidden(x)
        errors = []
        for moments in (found, {}):
            _, stored = export.stored(weights, {}, moments)
            other = Nano(decoder.sizes).eval()
            other.load_state_dict(decoder.state_dict())
            rounded = {name: torch.from_numpy(value) for name, value in from_eight_bits(stored).items()}
            other.load_state_dict(rounded, strict=False)
            errors.append(float((other.hidden(x) - wanted).square().mean()))
    assert errors[0] < 0.5 * errors[1]
