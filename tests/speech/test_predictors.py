import pytest
import torch

from riverrun.speech.joiner import Joiner
from riverrun.speech.predictors import LstmPredictor, StatelessPredictor
from riverrun.streaming import StreamingModule


def test_stateless_is_a_sum_over_the_context() -> None:
    torch.manual_seed(0)
    predictor = StatelessPredictor(6, 4, context=3).double()
    labels = torch.tensor([[0, 3, 5, 2]])
    with torch.no_grad():
        y, _ = predictor(labels, torch.tensor([4]))
        embedded, weight = predictor.embedding.weight[labels[0]], predictor.conv.weight[:, 0]
        last = (embedded[1:4] * weight.T).sum(0).relu()
        first = (embedded[0] * weight[:, 2]).relu()  # nothing stands before the first label
    torch.testing.assert_close(y[0, 3], last)
    torch.testing.assert_close(y[0, 0], first)


def test_stateless_forgets_and_lstm_remembers() -> None:
    torch.manual_seed(0)
    one, other = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[0, 4, 2, 3]])
    for predictor, same in ((StatelessPredictor(6, 4), True), (LstmPredictor(6, 4), False)):
        a, b = (predictor(labels, torch.tensor([4]))[0][0, -1] for labels in (one, other))
        assert torch.equal(a, b) == same


@pytest.mark.parametrize("predictor", [StatelessPredictor(6, 4, context=3), LstmPredictor(6, 4, layers=2)], ids=["stateless", "lstm"])
def test_only_slots_that_emit_advance(predictor: StreamingModule) -> None:
    labels = torch.tensor([[0, 1], [0, 2]])
    with torch.no_grad():
        _, _, state = predictor.step(labels, torch.tensor([2, 2]), predictor.init_state(2, torch.zeros(0)))
        _, _, after = predictor.step(torch.tensor([[5], [5]]), torch.tensor([1, 0]), state)
    for (_, before), (_, now) in zip(state.named_tensors(), after.named_tensors(), strict=True):
        assert not torch.equal(before[0], now[0])
        assert torch.equal(before[1], now[1])


def test_both_train() -> None:
    for predictor in (StatelessPredictor(6, 4), LstmPredictor(6, 4)):
        predictor(torch.tensor([[0, 1, 2]]), torch.tensor([3]))[0].square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in predictor.parameters())


def test_joiner_broadcasts_to_the_lattice_and_splits_for_search() -> None:
    torch.manual_seed(0)
    joiner = Joiner(3, 4, 5, 6).double()
    encoded, predicted = torch.randn(2, 7, 3, dtype=torch.float64), torch.randn(2, 4, 4, dtype=torch.float64)
    lattice = joiner(encoded[:, :, None], predicted[:, None])
    assert lattice.shape == (2, 7, 4, 6)
    one = joiner.join(joiner.project_encoder(encoded[1, 5]), joiner.project_predictor(predicted[1, 2]))
    torch.testing.assert_close(lattice[1, 5, 2], one)
