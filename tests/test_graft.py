"""Whisper's decoder as a Qwen decoder: each bridge between the two, on random weights. Needs torch (training only)."""

import copy
import math
from dataclasses import replace

import pytest
import tiktoken

torch = pytest.importorskip("torch", reason="torch is for training only: models/nano/train/requirements.txt")

from safetensors import numpy as safetensors_numpy  # noqa: E402 - with torch

from models.nano.train import distil, export, graft, grafted, whisper_pieces, widen  # noqa: E402 - they import torch
from models.nano.train import whisper_decoder as whisper  # noqa: E402
from models.nano.train.batches import Batch  # noqa: E402
from models.nano.train.model import Nano, Sizes, rotary_tables  # noqa: E402
from models.nano.train.train import begin, trained_state  # noqa: E402
from models.nano.train.whisper_decoder import Attention, Layer, Linear, Norm  # noqa: E402
from models.nano.train.whisper_foresight import WhisperForesight  # noqa: E402
from models.nano.train.whisper_teacher import WhisperTeacher  # noqa: E402
from tokenizer.tokenizer import PIECES, Tokenizer  # noqa: E402

VOCABULARY, AUDIO_START, TOKENS, WORDS = 60, 50, 30, 12
ROWS = slice(-WORDS - 2, -1)  # a tag and the words, without the end


def linear(n_out, n_in, generator, *, bias=True):
    weight = torch.randn(n_out, n_in, generator=generator) / math.sqrt(n_in)
    return Linear(weight, 0.3 * torch.randn(n_out, generator=generator) * bias)


def norm(generator):
    return Norm(1 + 0.2 * torch.randn(512, generator=generator), 0.2 * torch.randn(512, generator=generator))


def attention(generator):
    query, value, out = (linear(512, 512, generator) for _ in range(3))
    return Attention(norm(generator), query, linear(512, 512, generator, bias=False), value, out)


@pytest.fixture(scope="module")
def teacher():
    generator = torch.Generator().manual_seed(1)
    made = object.__new__(whisper.WhisperDecoder)
    made.embeddings = 0.02 * torch.randn(100, 512, generator=generator)
    waves = torch.arange(448)[:, None] / torch.logspace(0.5, 3, 512)
    made.positions = 0.01 * torch.sin(waves + torch.rand(512, generator=generator))
    made.norm = norm(generator)
    made.layers = [
        Layer(
            attention(generator),
            attention(generator),
            norm(generator),
            linear(2048, 512, generator),
            linear(512, 2048, generator),
        )
        for _ in range(whisper.N_LAYER)
    ]
    return made


@pytest.fixture(scope="module")
def speech():
    generator = torch.Generator().manual_seed(2)
    streams = [
        torch.randn(2000, 512, generator=generator) + 2 * torch.randn(512, generator=generator) for _ in range(18)
    ]
    return graft.Speech(streams, torch.randn(2000, 512, generator=generator), torch.randn(512, generator=generator))


@pytest.fixture(scope="module")
def model(teacher, speech):
    sizes = Sizes(VOCABULARY, AUDIO_START)
    state = graft.graft(teacher, sizes, speech, pieces=range(40), special={45: 60})
    model = Nano(sizes).eval()
    left = model.load_state_dict(state, strict=False)
    assert not left.unexpected_keys
    return model


@pytest.fixture(scope="module")
def batch(speech):
    ids = torch.tensor([[AUDIO_START, *[0] * TOKENS, AUDIO_START + 1, 45, *range(WORDS), 40]])
    return Batch(
        ids=ids,
        targets=ids.roll(-1, 1),
        weights=torch.ones(ids.shape),
        features=speech.features[:TOKENS],
        places=torch.arange(1, 1 + TOKENS),
        ends=(torch.tensor([0]), torch.tensor([1 + TOKENS])),
        clips=torch.tensor([TOKENS]),
        clean=speech.features[:TOKENS],
        read=torch.tensor([[0, 0, 3 + TOKENS, 3 + TOKENS + WORDS, 0]]),
        tasks=["transcribe_base"],
    )


@torch.no_grad()
def streams(model, batch):
    """The stream of the whole model before each of its layers."""
    x = model.embed(batch.ids, batch.features, batch.places, batch.ends)
    tables = rotary_tables(torch.arange(x.shape[1]), model.sizes)
    found = [x]
    for block in model.transformer.h:
        found.append(block(found[-1], tables))
    return found


def silent(batch, speech):
    """The sound of a batch with its silence behind it."""
    features, louder = whisper.followed_by(speech.silence, [batch.features])
    return features, louder


def off(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


def centred(x):
    return x @ graft.CENTRE


def test_layer_0_adds_whispers_positions(model, batch, teacher):
    words = streams(model, batch)[1][0, ROWS]
    ids = torch.tensor([60, *range(WORDS)])
    wanted = centred(teacher.embeddings[ids] + teacher.positions[: WORDS + 1])
    assert off(words[:, :512], wanted) < 0.02
    assert words[:, 512:].abs().max() < 0.1 * wanted.norm(dim=1).mean()


@torch.no_grad()
def test_an_attention_is_whispers(model, batch, teacher, speech):
    """The first self-attention sees text alone, the first cross-attention sound alone."""
    before = streams(model, batch)[1]
    tables = rotary_tables(torch.arange(before.shape[1]), model.sizes)
    block = model.transformer.h[1]
    added = block.attn(block.ln_1(before), tables)[0, ROWS, :512]
    x = before[0, ROWS, :512]
    first = teacher.layers[0].attend
    future = torch.full((WORDS + 1, WORDS + 1), -torch.inf).triu(1)
    assert off(added, centred(whisper.mixed(first, first.norm(x), first.norm(x), future))) < 0.1
    cross, block = teacher.layers[0].cross, model.transformer.h[2]
    added = block.attn(block.ln_1(before), tables)[0, ROWS, :512]
    wanted = whisper.mixed(cross, cross.norm(x), *(part[0] for part in silent(batch, speech)))
    assert off(added, centred(wanted)) < 0.2
    unended = whisper.mixed(cross, cross.norm(x), batch.features, torch.zeros(()))
    assert off(added, centred(unended)) > 0.5  # the silence behind a sound is heard


def test_what_layers_add_to_sound_is_nothing_beside_it(model, batch):
    found = streams(model, batch)
    rows = slice(1, 1 + TOKENS)
    assert off(found[-1][0, rows, :512], found[0][0, rows, :512]) < 0.02


@torch.no_grad()
def test_a_training_step_sees_what_the_whole_model_sees(model, batch):
    hidden, places = grafted.text_hidden(model, batch)
    whole = model.transformer.ln_f(streams(model, batch)[-1])
    assert places.tolist() == [[0, *range(1 + TOKENS, batch.ids.shape[1])]]
    assert off(hidden[0, 2:], whole[0, places[0, 2:]]) < 0.02


def test_a_functional_is_one_on_what_it_was_fitted_to(speech):
    stream = speech.streams[0]
    rows = centred(stream) * math.sqrt(graft.D_MODEL) / centred(stream).norm(dim=1, keepdim=True)
    assert (rows @ graft.nearly_one(stream) - 1).square().mean().sqrt() < 0.15


@pytest.fixture(scope="module")
def ear(teacher, speech):
    """A teacher whose ids are the vocabulary's."""
    made = object.__new__(WhisperTeacher)
    made.decoder, made.pieces = teacher, torch.arange(40)
    made.silence, made.end, made.closing = speech.silence, 40, 39
    made.begins, made.marked = torch.arange(40) % 2 == 1, torch.arange(40) == 7
    return made


@pytest.fixture(autouse=True)
def few_ids(monkeypatch):
    monkeypatch.setattr(whisper, "PROMPT", (60, 61, 62, 63))
    monkeypatch.setattr(whisper, "END", 64)


def test_what_whisper_foresees(ear, teacher, batch, speech):
    taught = ear(batch)
    ids = torch.tensor([60, 61, 62, 63, *range(WORDS)])
    features, louder = silent(batch, speech)
    last, streams = teacher.states(ids, features[0], louder[0])
    assert off(taught.streams[5][0], streams[5]) < 1e-5
    known = [*range(40), whisper.END]
    wanted = (last[3:] @ teacher.embeddings[known].T).log_softmax(-1)
    assert off(taught.log_probabilities[0], wanted) < 1e-5
    assert taught.sure.tolist() == [[False, *[True] * WORDS]]  # the first word has no space before it; the end counts
    foreseen = batch.ids[0][2 + TOKENS + torch.arange(1, 1 + WORDS)]
    assert foreseen.tolist() == list(range(WORDS))
    assert taught.columns[0, 4:].tolist() == [3 + place for place in range(WORDS)]  # both ends of the sound, a tag


def test_marks_are_not_foreseen_where_none_are_written(ear, batch):
    plain = replace(batch, read=batch.read.clone().index_fill(1, torch.tensor([4]), 1))
    assert ear(plain).log_probabilities[..., 7].max() < -1000
    assert ear(batch).log_probabilities[..., 7].max() > -100


def test_in_chat_whispers_end_is_the_quotation_mark(ear, batch):
    ends = ear(batch).log_probabilities[0, :, -1]
    ids = batch.ids.index_fill(1, torch.tensor([3 + TOKENS + WORDS]), 39)
    chat = ear(replace(batch, ids=ids))
    assert torch.equal(chat.log_probabilities[0, :, 39].argsort(), ends.argsort())
    assert chat.log_probabilities[0, :, -1].max() < -1000
    assert chat.sure[0, -1]


def test_the_padding_of_a_shorter_sound_is_not_heard(ear, batch, speech):
    short, long = speech.features[:9], speech.features[9 : 9 + TOKENS]
    ids = torch.zeros(2, 40, dtype=torch.int64)
    ids[0, 12:20], ids[1, 33:37] = torch.arange(8), torch.arange(4)
    both = replace(
        batch,
        ids=ids,
        clean=torch.cat([short, long]),
        clips=torch.tensor([9, TOKENS]),
        read=torch.tensor([[0, 0, 12, 20, 0], [1, 1, 33, 37, 0]]),
    )
    alone = replace(both, clean=short, clips=torch.tensor([9]), read=both.read[:1])
    assert off(ear(both).log_probabilities[0, :9], ear(alone).log_probabilities[0]) < 1e-5
    assert ear(both).sure[1].tolist() == [False, *[True] * 3, *[False] * 5]  # what follows it is no end


@pytest.fixture
def foresight(teacher, speech, monkeypatch):
    """A teacher that has " a" to "le" as nano does, and " b c" in one piece; END is its 65th id."""
    monkeypatch.setattr("models.nano.train.whisper_foresight.AGREED", 0.0)
    monkeypatch.setattr("models.nano.train.whisper_foresight.LIKELIEST", 65)  # all
    made = object.__new__(WhisperForesight)
    made.decoder, made.silence, made.end, made.closing = teacher, speech.silence, 40, 39
    made.own = [b" " + bytes([97 + token]) for token in range(40)]
    theirs = [*made.own, b" ", *(bytes([97 + token]) for token in range(WORDS)), b" bc"]
    made.own[2] = b"c"  # " bc" is spelled
    ranks = {piece: number for number, piece in enumerate(theirs)}
    made.whole = tiktoken.Encoding("tiny", pat_str=PIECES, mergeable_ranks=ranks, special_tokens={})
    made.spelled = torch.tensor([*range(40), *[-1] * (WORDS + 1), 1, *[-1] * (64 - len(theirs))])
    made.spelled_plainly = made.spelled
    return made


@torch.no_grad()
def test_whisper_foresees_with_its_own_pieces(foresight, teacher, batch, speech):
    taught = foresight(batch)
    ids = torch.tensor([60, 61, 62, 63, 0, 53, *range(3, WORDS)])
    features, louder = silent(batch, speech)
    last, _ = teacher.states(ids, features[0], louder[0])
    scores = (last[3:] @ teacher.embeddings[:65].T).softmax(-1)
    wanted = torch.cat([scores[:, :40], scores[:, 64:]], 1)
    wanted[:, 1] += scores[:, 53]  # " bc" begins with our " b"
    wanted = (wanted / wanted.sum(-1, keepdim=True)).log()
    assert taught.sure.tolist() == [
        [True, True, False, *[True] * (WORDS - 2)]
    ]  # in the middle of " bc" it is not asked
    assert off(taught.log_probabilities[0, :2], wanted[:2]) < 1e-3
    assert off(taught.log_probabilities[0, 3:], wanted[2:]) < 1e-3
    assert taught.columns[0, 4:].tolist() == [3 + place for place in range(WORDS)]


def test_whisper_is_not_asked_where_it_does_not_foresee_what_was_said(foresight, batch, monkeypatch):
    said = [*range(WORDS), -1]
    likely = foresight(batch).log_probabilities[0, range(WORDS + 1), said].exp()
    ranked = sorted(likely.tolist())
    for least in ((ranked[place] + ranked[place + 1]) / 2 for place in range(3, 9)):
        monkeypatch.setattr("models.nano.train.whisper_foresight.AGREED", least)
        wanted = likely > least
        wanted[2] = False
        assert foresight(batch).sure[0].tolist() == wanted.tolist()


@torch.no_grad()
def test_a_graft_is_near_whisper_and_another_is_not(model, batch, ear):
    hidden, _ = grafted.text_hidden(model, batch)
    taught = ear(batch)
    near = taught.divergence(hidden, model.lm_head.weight)
    assert 0 <= near < taught.divergence(hidden.flip(1), model.lm_head.weight)


def test_an_mlp_of_zeros_begins_to_learn_and_says_nothing_yet(model, batch, tmp_path):
    zeros = copy.deepcopy(trained_state(model))
    for name in ("w1", "w2", "c_proj"):
        zeros[f"transformer.h.1.mlp.{name}.weight"].zero_()
    torch.save({"step": 0, "model": zeros}, tmp_path / "state.pt")
    asleep, awake, again = Nano(model.sizes), Nano(model.sizes), Nano(model.sizes)
    asleep.load_state_dict(zeros, strict=False)
    for one in (awake, again):
        begin(tmp_path / "state.pt", one)
    hidden = []
    for one in (asleep, awake):
        one.transformer.audio = model.transformer.audio
        hidden.append(grafted.text_hidden(one, batch)[0])
        hidden[-1].square().sum().backward()
    assert torch.equal(*hidden)
    last = [one.transformer.h[1].mlp.c_proj.weight for one in (asleep, awake)]
    assert [bool(weight.grad.any()) for weight in last] == [False, True]
    first = awake.transformer.h[1].mlp.w1.weight.detach()
    assert torch.equal(first, again.transformer.h[1].mlp.w1.weight)
    mean = export.mean_state([tmp_path / "state.pt"] * 2)["transformer.h.1.mlp.w1.weight"]
    assert torch.equal(first, torch.from_numpy(mean))  # a mean with a state that has learned keeps what it learned
    assert not torch.equal(first, awake.transformer.h[1].mlp.w2.weight)


def test_training_goes_on_from_what_was_exported(model, tmp_path):
    trained = copy.deepcopy(trained_state(model))
    grafted.wake(trained)
    _, stored = export.stored({name: value.numpy() for name, value in trained.items()}, {}, {})
    safetensors_numpy.save_file(stored, tmp_path / "decoder.safetensors")
    again = Nano(model.sizes)
    begin(tmp_path / "decoder.safetensors", again)
    for name, value in trained_state(again).items():
        wrong = (value - trained[name]).abs()
        step = trained[name].abs().amax(-1, keepdim=True) / 127 if value.ndim > 1 else 0.0  # of 8 bits
        assert bool((wrong <= 0.51 * step).all()), name


def test_what_is_learned_of_whitened_sound_is_kept_in_the_weights(model, batch, tmp_path):
    learner = copy.deepcopy(model)
    features = torch.randn(400, 512) * torch.linspace(0.01, 3, 512)
    grafted.whiten(learner, features)
    with torch.no_grad():
        before, _ = grafted.text_hidden(model, batch)
        assert torch.equal(grafted.text_hidden(learner, batch)[0], before)  # nothing is changed at first
        changes = [module for module in learner.modules() if isinstance(module, grafted.Whitened)]
        for module in changes:
            module.change.normal_(std=0.05)
        after, _ = grafted.text_hidden(learner, batch)
        assert len(changes) == whisper.N_LAYER
        assert off(after, before) > 0.01
        torch.save({"step": 3, "model": trained_state(learner)}, tmp_path / "state.pt")
        again = Nano(model.sizes)
        assert begin(tmp_path / "state.pt", again)["step"] == 3
        again.transformer.audio = learner.transformer.audio
        assert off(grafted.text_hidden(again, batch)[0], after) < 1e-4


def test_whitened_sound_is_alike_loud_in_all_directions():
    mixed = torch.randn(4000, 64) @ (torch.randn(64, 64) * torch.logspace(-0.8, 0.8, 64))
    white = mixed @ grafted.Whitened(128, mixed.T @ mixed / len(mixed)).whitening
    spread = torch.linalg.eigvalsh(white.T @ white / len(white))
    assert 0.5 < float(spread[len(spread) // 2]) < 1.01
    assert float(spread.max()) < 1.01  # nothing is louder than one


def test_a_wider_vocabulary_keeps_the_rows_of_the_pieces_that_were_there(model, teacher, tmp_path, monkeypatch):
    pieces = [bytes([byte]) for byte in range(256)] + [b" t", b"he", b" the", b"cat", b" cat"]
    monkeypatch.setattr(widen, "whisper_ids", lambda tokenizer: [own(tokenizer, token) for token in texts(tokenizer)])
    own = lambda tokenizer, token: pieces.index(tokenizer.token_bytes(token))  # noqa: E731
    texts = lambda tokenizer: range(tokenizer.endoftext)  # noqa: E731
    whisper_pieces.write_ranks([*pieces[:258], pieces[260]], tmp_path / "old")
    whisper_pieces.write_ranks(pieces, tmp_path / "new")
    old, new = Tokenizer(tmp_path / "old"), Tokenizer(tmp_path / "new")
    table = torch.randn(len(pieces), 512)
    content = table @ graft.CENTRE
    rows = torch.zeros(old.vocab_size, 576)
    rows[:, :512] = torch.randn(old.vocab_size, 512)
    rows[: old.endoftext, :512] = content[widen.whisper_ids(old)] * 1.1  # what training made of them
    rows[:, graft.EVEN] = ((1200 - rows[:, :512].square().sum(1)).clamp_min(0) / 32).sqrt()[:, None]
    wide = widen.widened(rows, old, new, table)
    assert wide.shape == (new.vocab_size, 576)
    assert torch.equal(wide[:258], rows[:258])
    assert torch.equal(wide[260], rows[258])
    assert torch.equal(wide[new.endoftext :], rows[old.endoftext :])
    assert off(wide[258:260, :512], content[258:260] * 1.1) < 0.1
    assert wide[258:260].norm(dim=1).tolist() == pytest.approx([float(rows[: old.endoftext].norm(dim=1).mean())] * 2)


def test_training_does_not_begin_with_a_part_of_a_decoder(model, tmp_path):
    _, stored = export.stored(
        {"transformer.ln_f.weight": trained_state(model)["transformer.ln_f.weight"].numpy()}, {}, {}
    )
    safetensors_numpy.save_file(stored, tmp_path / "decoder.safetensors")
    with pytest.raises(AssertionError, match="no whole decoder"):
        begin(tmp_path / "decoder.safetensors", Nano(model.sizes))


def test_a_step_of_distil_brings_a_graft_nearer(model, batch, ear):
    tagged = torch.tensor([[AUDIO_START, *[0] * TOKENS, AUDIO_START + 1, *[45] * 4, *range(WORDS), 40]])
    batch = replace(batch, ids=tagged, read=torch.tensor([[0, 0, 6 + TOKENS, 6 + TOKENS + WORDS, 0]]))
    taught = ear(batch)
    learner = copy.deepcopy(model)
    before = sum(distil.distances(learner, batch, taught))
    tool = grafted.optimizer(learner, 1e-4)
    before.backward()
    tool.step()
    assert sum(distil.distances(learner, batch, taught)) < before
    with torch.no_grad():
        near, far = (distil.distances(one, batch, taught)[1] for one in (model, Nano(model.sizes).eval()))
    assert 0 < near < 0.7 < far  # the streams of random weights have nothing of Whisper's
