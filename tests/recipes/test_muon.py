"""Muon: orthogonal updates of one size for hidden matrices, AdamW for the rest, and a state that resumes."""

import copy

import pytest
import torch
from torch import nn

from riverrun.recipes.muon import Muon, is_hidden_matrix, orthogonalise


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(6, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 16), nn.Linear(16, 8)])
        self.out = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x)
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.out(x)


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def train(model: nn.Module, optimiser: torch.optim.Optimizer, steps: int, seed: int = 1) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(steps):
        x = torch.randn(32, 6, generator=generator)
        loss = (model(x) - torch.stack([x[:, 0] * x[:, 1], x[:, 2].sin(), x[:, 3]], 1)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 8, 24), (2, 24, 8)])
def test_singular_values_come_near_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
    assert values.min() > 0.4
    assert values.max() < 1.4


def test_only_matrices_between_hidden_layers_are_orthogonalised() -> None:
    assert [name for name, p in net().named_parameters() if is_hidden_matrix(name, p)] == [f"layers.{i}.weight" for i in range(3)]


def test_other_parameters_follow_adamw() -> None:
    ours, theirs = net(), net()
    a = Muon(((n, p) for n, p in ours.named_parameters() if not is_hidden_matrix(n, p)), 1e-2, weight_decay=0.1)
    b = torch.optim.AdamW([p for n, p in theirs.named_parameters() if not is_hidden_matrix(n, p)], 1e-2, (0.9, 0.98), weight_decay=0.1)
    train(ours, a, 5)
    train(theirs, b, 5)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, msg=name, rtol=1e-5, atol=1e-6)


def test_it_learns() -> None:
    model = net()
    losses = train(model, Muon(model.named_parameters(), 1e-2), 400)
    assert sum(losses[-20:]) < 0.3 * sum(losses[:20])


def test_a_saved_state_goes_on_alike() -> None:
    model = net()
    optimiser = Muon(model.named_parameters(), 1e-2)
    train(model, optimiser, 5)
    again = copy.deepcopy(model)
    resumed = Muon(again.named_parameters(), 1e-2)
    resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    assert train(model, optimiser, 5, seed=2) == train(again, resumed, 5, seed=2)
