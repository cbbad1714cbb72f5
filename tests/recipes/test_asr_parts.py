"""Parts of the recogniser's training: losses, growth, spectral norms, entropy, averages, texts for unlabelled speech."""

import json
import sys
import types
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from riverrun.kernels import transducer as own
from riverrun.kernels.transducer.loss import Reduction
from riverrun.recipes.asr.average import main as average
from riverrun.recipes.asr.callbacks import FinishBy
from riverrun.recipes.asr.dev import DevSet, Measuring, hear, rescored, word_errors
from riverrun.recipes.asr.entropy import attention_entropy
from riverrun.recipes.asr.growth import Growth, Stage
from riverrun.recipes.asr.label import main as label
from riverrun.recipes.asr.label import stretches
from riverrun.recipes.asr.options import Optimisation
from riverrun.recipes.asr.sigma import plain, reparametrise
from riverrun.recipes.corpora.packed import PackedCorpus
from riverrun.recipes.training import AveragedModule
from riverrun.speech.attention import Context, attention_mask
from riverrun.speech.bundle import load_bundle
from riverrun.speech.decoders import DecoderConfig, TransformerDecoder
from riverrun.speech.encoders import ConformerConfig, ConformerEncoder
from riverrun.speech.features import LogMelConfig
from riverrun.speech.joiner import Joiner
from riverrun.speech.losses import transducer_loss
from riverrun.speech.losses.attention import attention_loss, text_log_probs
from riverrun.speech.losses.pruned import SimpleJoiner, pruned_transducer_loss
from riverrun.speech.losses.smoothing import uniform_divergence
from riverrun.speech.models import Recogniser, RecogniserConfig
from riverrun.speech.recognizer import make_search
from riverrun.streaming import Word

from ..tiny import tiny_bundle
from .asr_trial import noise_pack, run, trial, written

LENGTHS, COUNTS = torch.tensor([9, 6]), torch.tensor([3, 2])
LABELS = torch.tensor([[1, 4, 2], [3, 3, 0]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asr")
    noise_pack(folder / "pack")
    return folder


def test_smoothing_is_the_divergence_from_uniform() -> None:
    logits = torch.randn(2, 9, 5, dtype=torch.float64)
    uniform = torch.full_like(logits, 0.2).log()
    kl = torch.nn.functional.kl_div(logits.log_softmax(-1), uniform, reduction="none", log_target=True).sum(-1)
    expected = (kl[0].sum() + kl[1, :6].sum()) / 15
    torch.testing.assert_close(uniform_divergence(logits, LENGTHS).double(), expected, rtol=1e-5, atol=1e-6)


def sides() -> tuple[Joiner, SimpleJoiner, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return Joiner(4, 6, 8, 5), SimpleJoiner(4, 6, 5), torch.randn(2, 9, 4, requires_grad=True), torch.randn(2, 4, 6, requires_grad=True)


def test_a_pruned_loss_that_prunes_nothing_is_the_full_loss() -> None:
    joiner, simple, encoded, predicted = sides()
    found = pruned_transducer_loss(joiner, simple, encoded, predicted, LENGTHS, LABELS, COUNTS, reach=4)
    full = transducer_loss(joiner, encoded, predicted, LENGTHS, LABELS, COUNTS)
    torch.testing.assert_close(found.pruned, full, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(loss, [encoded, predicted], retain_graph=True) for loss in (found.pruned, full)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def stand_in_for_k2() -> types.ModuleType:
    """The functions of k2 with its arguments, what it refuses and the column it adds; its figures are in tests/kernels/k2.json."""

    def accept(symbols: Tensor, boundary: Tensor, frames: int) -> None:
        assert symbols.dtype == boundary.dtype == torch.int64 and boundary.shape == (len(symbols), 4)
        assert 1 <= symbols.shape[1] <= frames

    def rnnt_loss_smoothed(
        lm: Tensor, am: Tensor, symbols: Tensor, termination_symbol: int, lm_only_scale: float, am_only_scale: float, boundary: Tensor,
        rnnt_type: Literal["regular"] = "regular", delay_penalty: float = 0.0, reduction: Reduction = "mean", return_grad: bool = False,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:  # fmt: skip
        accept(symbols, boundary, am.shape[1])
        shares = lm_only_scale, am_only_scale
        loss, (px, py) = own.rnnt_loss_simple(lm, am, symbols, termination_symbol, boundary, *shares, delay_penalty, reduction, return_grad)
        return loss, (torch.nn.functional.pad(px, (0, 1)), py)

    def rnnt_loss_pruned(
        logits: Tensor, symbols: Tensor, ranges: Tensor, termination_symbol: int, boundary: Tensor,
        rnnt_type: Literal["regular"] = "regular", delay_penalty: float = 0.0, reduction: Reduction = "mean",
    ) -> Tensor:  # fmt: skip
        accept(symbols, boundary, logits.shape[1])
        return own.rnnt_loss_pruned(logits, symbols, ranges, termination_symbol, boundary, delay_penalty, reduction)

    k2 = types.ModuleType("k2")
    vars(k2).update(get_rnnt_prune_ranges=own.get_rnnt_prune_ranges, do_rnnt_pruning=own.do_rnnt_pruning)
    vars(k2).update(rnnt_loss_smoothed=rnnt_loss_smoothed, rnnt_loss_pruned=rnnt_loss_pruned)
    return k2


@pytest.mark.parametrize("time", [9, 2])  # and with fewer frames than labels, which an encoder of long frames brings about
def test_k2_is_asked_in_its_own_words(time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "k2", stand_in_for_k2())
    joiner, simple, encoded, predicted = sides()
    learned = [encoded, predicted, *joiner.parameters(), *simple.parameters()]
    arguments = joiner, simple, encoded[:, :time], predicted, LENGTHS.clamp(max=time), LABELS, COUNTS
    expected, found = (pruned_transducer_loss(*arguments, reach=3, by=by) for by in ("own", "k2"))
    torch.testing.assert_close(found, expected)
    assert found.pruned > 0
    torch.testing.assert_close(*(torch.autograd.grad(sum(losses), learned) for losses in (found, expected)))


def test_texts_too_long_for_the_pruned_lattice_cost_nothing() -> None:
    joiner, simple, encoded, predicted = sides()
    found = pruned_transducer_loss(joiner, simple, encoded, predicted, torch.tensor([1, 6]), LABELS, COUNTS, reach=2)
    found.pruned.backward()
    assert found.pruned.isfinite() and encoded.grad is not None and not encoded.grad[0].any() and encoded.grad.isfinite().all()


def test_an_attention_decoder_scores_labels_and_the_end() -> None:
    torch.manual_seed(0)
    decoder = TransformerDecoder(DecoderConfig(8, 1, 2, 8, dropout=0.0), 5, 5, 4).double().eval()
    encoded = torch.randn(2, 9, 4, dtype=torch.float64)
    total = torch.zeros(2, dtype=torch.float64)
    for row, labels in enumerate([[1, 4, 2], [3, 3]]):
        scores = decoder(torch.tensor([[0, *labels]]), torch.tensor([len(labels) + 1]), encoded[row : row + 1], LENGTHS[row : row + 1])
        total[row] = sum(scores[0, i].log_softmax(-1)[label] for i, label in enumerate([*labels, 0]))
    loss = attention_loss(decoder, encoded, LENGTHS, LABELS, COUNTS, smoothing=0)
    torch.testing.assert_close(loss.double(), -total.sum() / 7, rtol=1e-5, atol=1e-6)
    texts = torch.stack([LABELS, LABELS.flip(0)], 1)  # (B, K, U)
    found = text_log_probs(decoder, encoded, LENGTHS, texts, torch.stack([COUNTS, COUNTS.flip(0)], 1))
    torch.testing.assert_close(found[:, 0].double(), total, rtol=1e-5, atol=1e-6)
    smoothed = attention_loss(decoder, encoded, LENGTHS, LABELS, COUNTS, smoothing=0.1)
    assert smoothed > 0 and smoothed != loss


@pytest.mark.parametrize(
    "change",
    [
        {"model__objective__transducer": "pruned", "model__objective__pruned_warmup": 2},
        {"model__model__decoder": {"dim": 8, "layers": 1, "heads": 2, "feed_forward": 8}, "model__measuring__search": "rescored"},
        {"model__model__transducer": None, "model__objective__smoothing": 0.01},
        {"model__growth__stages": [{"until": 1, "layers": 1, "pool": 4}, {"until": 3, "layers": 1, "pool": 2}]},
        {"model__sigma_reparam": True},
    ],
    ids=["pruned", "decoder", "ctc", "growth", "sigma"],
)  # fmt: skip
def test_every_kind_of_training_leaves_a_model_that_is_measured(change: dict[str, object], folder: Path, tmp_path: Path) -> None:
    tokenizer = str(folder / "tokens.model")
    bundle_ = {"folder": str(tmp_path / "b"), "tokenizer": tokenizer, "name": "t"}
    callbacks = [
        {"class_path": "riverrun.recipes.asr.callbacks.KeepBundle", "init_args": bundle_},
        {"class_path": "riverrun.recipes.asr.entropy.WatchAttention", "init_args": {"every": 2, "utterances": 2}},
        {"class_path": "riverrun.recipes.asr.checkpoints.KeepCheckpoints", "init_args": {"folder": str(tmp_path / "c"), "every": 2}},
    ]  # fmt: skip
    logger = [
        {"class_path": "pytorch_lightning.loggers.TensorBoardLogger", "init_args": {"save_dir": str(tmp_path)}},
        {"class_path": "pytorch_lightning.loggers.CSVLogger", "init_args": {"save_dir": str(tmp_path / "csv")}},
    ]
    trial_ = trial(folder, **change, trainer__callbacks=callbacks, trainer__logger=logger)
    trial_["data"] |= {"dev": {"pack": str(folder / "pack")}, "test": {"pack": str(folder / "pack")}}
    configuration = written(folder, trial_)
    assert run(["fit", "--config", configuration]) == 0
    header = (tmp_path / "csv" / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()[0]
    assert "dev/wer/pack/320" in header and "entropy/2/1" in header and "train/loss" in header
    bundle = load_bundle(str(tmp_path / "b"))
    checkpoint = str(tmp_path / "c" / "step-00000004.ckpt")
    assert average(["--like", str(tmp_path / "b"), "--out", str(tmp_path / "mean"), checkpoint]) == 0
    again = load_bundle(str(tmp_path / "mean")).network.state_dict()
    for name, tensor in bundle.network.state_dict().items():
        torch.testing.assert_close(again[name], tensor, rtol=2e-3, atol=2e-3)


def test_test_and_predict(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tiny_bundle(tmp_path)
    config = load_bundle(str(bundle)).config.model
    network: dict[str, object] = {
        "encoder": {"dim": config.encoder.dim, "layers": 2, "heads": 2, "feed_forward": 32, "kernel": 5, "subsampling_channels": 4}
    }
    base = trial(
        folder, model__model={"vocabulary": config.vocabulary, **network, "transducer": {"dim": 16, "joiner": 16}}, model__init=str(bundle)
    )
    base["data"] |= {"test": {"pack": str(folder / "pack")}, "predict": str(folder / "pack")}
    writer = {"class_path": "riverrun.recipes.asr.callbacks.WriteTexts", "init_args": {"path": str(tmp_path / "texts.jsonl")}}
    base["trainer"] = {**base["trainer"], "callbacks": [writer]}
    configuration = written(folder, base)
    assert run(["test", "--config", configuration]) == 0
    assert "test/wer/pack/full" in capsys.readouterr().out
    assert run(["predict", "--config", configuration]) == 0
    rows = [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text().splitlines()]
    assert {row["id"] for row in rows} == {f"pack-{i}" for i in range(24)} and any(row["text"] for row in rows)
    network_ = load_bundle(str(bundle))
    first = next(iter(DevSet(str(folder / "pack"), 400.0)))
    heard = hear(network_.network, first, Measuring(), "full")
    by_name = {row["id"]: row["text"] for row in rows}
    assert [network_.tokenizer.decode([x.id for x in labels]) for labels in heard.labels] == [by_name[name] for name in first.names]


def test_rescoring_weighs_search_and_decoder() -> None:
    torch.manual_seed(0)
    config = RecogniserConfig(
        7, LogMelConfig(bins=6, high=0.0), ConformerConfig(6, 8, 1, 2, 8, 3, 2), transducer=None, decoder=DecoderConfig(8, 1, 2, 8)
    )
    model = Recogniser(config).eval()
    encoded, lengths = torch.randn(3, 12, 8), torch.tensor([12, 7, 1])
    with torch.no_grad():
        first, counts = make_search(model, "beam", 4, never_settle=True)(encoded, lengths)
        alone, alone_counts = rescored(model, encoded, lengths, Measuring(search="rescored", rescore=0.0))
        judged, judged_counts = rescored(model, encoded, lengths, Measuring(search="rescored", rescore=1.0, beam=6))
        for row in range(3):
            assert first.ids[row, : counts[row]].tolist() == alone.ids[row, : alone_counts[row]].tolist()
        search = make_search(model, "beam", 6, never_settle=True)
        found = search.nbest(search.step(encoded, lengths, search.init_state(3, encoded))[2])
        texts = [found.ids[0, k, : found.lengths[0, k]] for k in range(6)]
        scores = [text_log_probs(model.decoder, encoded[:1], lengths[:1], t[None, None], torch.tensor([[len(t)]])).item() for t in texts]
    assert judged.ids[0, : judged_counts[0]].tolist() == texts[int(np.argmax(scores))].tolist()


def test_growth_has_stages() -> None:
    growth = Growth((Stage(10, 2, 4), Stage(20, 4, 2)))
    assert [growth.at(step) for step in (0, 9, 10, 19, 20)] == [(2, 4), (2, 4), (4, 2), (4, 2), (None, 1)]
    encoder = ConformerEncoder(ConformerConfig(6, 8, 3, 2, 8, 3, 2), Context()).eval()
    x = torch.randn(2, 33, 6)
    y, lengths = encoder(x, torch.tensor([33, 20]), depth=1, pool=4)
    assert y.shape == (2, 3, 8) and lengths.tolist() == [3, 2]
    deep: list[int] = []
    encoder(x, torch.tensor([33, 20]), after=lambda number, _: deep.append(number), depth=2)
    assert deep == [0, 1, 2]


def test_sigma_reparam_sets_the_spectral_norm_and_can_be_taken_back() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 4)).double()
    names, x = list(net.state_dict()), torch.randn(3, 6, dtype=torch.float64)
    before = net(x)
    reparametrise(net, keep=True)
    net.double()
    torch.testing.assert_close(net.eval()(x), before, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        for part in net:
            part.parametrizations.weight[0].gamma.fill_(1.5)
            part.parametrizations.weight.original.add_(torch.randn_like(part.weight) * 0.05)
    for _ in range(50):
        net.train()(x)
    state = plain(net.state_dict())
    assert sorted(state) == sorted(names)
    for name in ("0.weight", "1.weight"):
        assert abs(torch.linalg.matrix_norm(state[name], 2).item() - 1.5) < 1e-3
    other = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 4)).double()
    other.load_state_dict(state)
    torch.testing.assert_close(other(x), net.eval()(x))


def test_entropy_is_that_of_the_weights() -> None:
    torch.manual_seed(0)
    encoder = ConformerEncoder(ConformerConfig(6, 8, 2, 2, 8, 3, 2), Context()).eval()
    x, frames = torch.randn(2, 32, 6), torch.tensor([32, 12])
    entropy = attention_entropy(encoder, x, frames, Context())
    assert entropy.shape == (2, 2) and (entropy > 0).all() and (entropy <= np.log(8) + 1e-6).all()
    with torch.no_grad():
        encoder.layers[1].attention.qkv.weight.zero_()
        encoder.layers[1].attention.qkv.bias.zero_()
    flat = attention_entropy(encoder, x, frames, Context())[1]
    torch.testing.assert_close(flat, torch.full_like(flat, (8 * np.log(8) + 3 * np.log(3)) / 11))
    layer, y = encoder.layers[0], torch.randn(2, 8, 8)
    mask = attention_mask(Context(), torch.tensor([8, 3]), 8)
    values = layer.attention.qkv(y).chunk(3, -1)[2].unflatten(-1, (2, -1)).transpose(1, 2)
    found = layer.attention.out((layer.attention.weights(y, mask) @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(found, layer.attention.whole(y, mask), rtol=1e-4, atol=1e-5)


def test_an_average_of_other_things_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = tiny_bundle(tmp_path / "one"), tiny_bundle(tmp_path / "other", transducer=None)
    assert average(["--like", str(one), "--out", str(tmp_path / "mean"), str(one), str(other)]) == 2
    assert "the weights are not all of one network" in capsys.readouterr().err
    torch.save({"state_dict": {}}, tmp_path / "x.ckpt")
    assert average(["--like", str(one), "--out", str(tmp_path / "mean"), str(tmp_path / "x.ckpt")]) == 2
    assert "x.ckpt is no checkpoint of riverrun.recipes.asr" in capsys.readouterr().err
    second = tiny_bundle(tmp_path / "second", seed=1)
    assert average(["--like", str(one), "--out", str(tmp_path / "mean"), str(one), str(second)]) == 0
    mean, a, b = (load_bundle(str(path)).network.encoder.layers[0].norm.weight for path in (tmp_path / "mean", one, second))
    torch.testing.assert_close(mean, (a + b) / 2, rtol=1e-3, atol=1e-3)
    lower = ["--only", r"encoder\.layers\.0", "--like", str(other), "--out", str(tmp_path / "lower"), str(one), str(other)]
    assert average(lower) == 0
    mixed, whole = (load_bundle(str(path)).network.encoder.layers for path in (tmp_path / "lower", other))
    torch.testing.assert_close(mixed[0].norm.weight, (a + whole[0].norm.weight) / 2, rtol=1e-3, atol=1e-3)
    assert torch.equal(mixed[1].norm.weight, whole[1].norm.weight)
    assert average(["--only", "decoder", *lower[2:]]) == 2
    assert "error: no weight has a name like 'decoder'; there are normalise.mean, " in capsys.readouterr().err


@pytest.mark.parametrize(("from_start", "steps"), [(False, 120), (True, 80)])
def test_training_is_planned_to_end_on_time(monkeypatch: pytest.MonkeyPatch, from_start: bool, steps: int) -> None:
    now = 100.0
    monkeypatch.setattr("riverrun.recipes.asr.callbacks.time.monotonic", lambda: now)
    module = AveragedModule.__new__(AveragedModule)
    torch.nn.Module.__init__(module)
    module.optimisation = Optimisation()
    trainer: Any = types.SimpleNamespace(global_step=0, should_stop=False, strategy=types.SimpleNamespace(broadcast=lambda x: x))
    finish = FinishBy(1.0, every=10, from_start=from_start)
    now += 20.5  # until the first batch
    while not trainer.should_stop:
        trainer.global_step += 1
        finish.on_train_batch_end(trainer, module)
        now += 0.5
        if trainer.global_step == 50:
            now += 2.0  # one that waits for a compiler does not change the plan much
    assert (trainer.global_step, module.optimisation.steps) == (steps, steps)


def word(text: str, start: float, end: float, confidence: float = 0.9) -> Word:
    return Word(text, start, end, confidence)


def test_stretches_lie_between_pauses_and_are_never_too_long() -> None:
    words = [word("a", 0.1, 0.5), word("b", 0.6, 1.0), word("c", 2.0, 2.4), word("d", 2.45, 4.0), word("e", 4.3, 5.0)]
    found = stretches(words, 5.1, longest_s=3.0, pause_s=0.5)
    assert [stretch.text for stretch in found] == ["a b", "c d", "e"]
    assert (found[0].start, found[0].end) == (0.0, 1.25) and found[2].end == 5.1
    assert found[1].end == 4.15 and found[2].start == 4.15  # the middle of a pause that is too short for both margins
    assert all(stretch.end - stretch.start <= 3.0 for stretch in found) and abs(found[0].confidence - 0.9) < 1e-9


def test_labels_are_a_corpus_of_what_the_model_is_sure_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = Path(__file__).parents[1] / "data" / "arctic_b0509_1592525968.ogg"
    (tmp_path / "broken.ogg").write_bytes(b"no audio")
    sure = ["--confidence", "0.3", "--disagreement", "1", "--out", str(tmp_path / "sure")]
    assert label([str(clip), str(tmp_path / "broken.ogg"), *sure]) == 1
    said = capsys.readouterr().err
    assert "skipped: " in said and "broken.ogg" in said and "1 recordings could not be read" in said
    corpus = PackedCorpus(tmp_path / "sure")
    first = next(iter(corpus))
    assert first.text.startswith("he had") and first.row["id"].startswith("arctic_b0509") and 0.3 <= first.row["confidence"] <= 1
    assert np.abs(corpus.audio.astype(float)).max() / 32768 * 2 > 0.5
    assert label([str(clip), "--confidence", "1.01", "--out", str(tmp_path / "none")]) == 2
    (tmp_path / "m.jsonl").write_text('{"id": 3}\n')
    with pytest.raises(ValueError, match="m.jsonl, line 1: a line needs an id and an audio file"):
        label([str(tmp_path / "m.jsonl"), *sure])


def test_word_errors_ignore_case_and_punctuation() -> None:
    assert word_errors("Don't stop, please.", "don't stop pleas") == (1, 3)
    assert word_errors("", "a") == (1, 0)
