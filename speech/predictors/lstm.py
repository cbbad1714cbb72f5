"""A predictor that remembers all labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from riverrun.streaming import Example, State, StreamingModule


@dataclass
class LstmState(State):
    """Hidden and cell vectors of each layer."""

    hidden: Tensor  # (slots, layers, dim)
    cell: Tensor  # (slots, layers, dim)


class LstmPredictor(StreamingModule):
    """Embedding and LSTM: (S, C) labels -> (S, C, dim). Graves, "Sequence transduction with recurrent neural networks" (2012).

    Args:
        vocabulary: number of labels, blank included.
        dim: size of the embedding, of each layer and of a prediction.
        layers: LSTM layers.
    """

    left = None

    def __init__(self, vocabulary: int, dim: int, layers: int = 1):
        super().__init__()
        self.vocabulary, self.dim = vocabulary, dim
        self.embedding = nn.Embedding(vocabulary, dim)
        self.lstm = nn.LSTM(dim, dim, layers, batch_first=True)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls(7, 8), (), vocabulary=7)
        yield Example(cls(5, 6, layers=2), (), vocabulary=5)

    def init_state(self, slots: int, like: Tensor) -> LstmState:
        zeros = self.embedding.weight.new_zeros(slots, self.lstm.num_layers, self.dim, device=like.device)
        return LstmState(zeros, zeros.clone())

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        # in float32: under autocast, cuDNN's LSTM computes in float16, whatever the type asked for, and gradients have no scaler
        with torch.autocast(x.device.type, enabled=False):
            return self.lstm(self.embedding(x))[0], lengths

    def step(self, x: Tensor, lengths: Tensor, state: LstmState) -> tuple[Tensor, Tensor, LstmState]:
        embedded = self.embedding(x)
        outputs = [embedded[:, :0]]
        hidden, cell = list(state.hidden.unbind(1)), list(state.cell.unbind(1))
        for i in range(x.shape[1]):
            y, here = embedded[:, i], (i < lengths)[:, None]
            # One cell at a time: for a single label, nn.LSTM on the CPU spends its time on repacking the weights.
            for layer, weights in enumerate(self.lstm.all_weights):
                y, c = torch.lstm_cell(y, (hidden[layer], cell[layer]), *weights)
                hidden[layer], cell[layer] = torch.where(here, y, hidden[layer]), torch.where(here, c, cell[layer])
            outputs.append(y[:, None])
        return torch.cat(outputs, 1), lengths, LstmState(torch.stack(hidden, 1), torch.stack(cell, 1))
