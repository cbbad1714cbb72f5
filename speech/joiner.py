"""The network that combines the two sides of a transducer."""

from __future__ import annotations

from torch import Tensor, nn


class Joiner(nn.Module):
    """Project both sides to ``dim``, add, tanh, and project to the vocabulary.

    In training, ``forward`` on ``(B, T, 1, E)`` and ``(B, 1, U + 1, P)`` gives the lattice ``(B, T, U + 1, V)``. Search
    projects each frame and each prediction once, by ``project_encoder`` and ``project_predictor``, and calls ``join``.

    Args:
        encoder_dim: size E of an encoder frame.
        predictor_dim: size P of a prediction.
        dim: size J of the space in which they are added.
        vocabulary: number V of labels, blank included.
    """

    def __init__(self, encoder_dim: int, predictor_dim: int, dim: int, vocabulary: int):
        super().__init__()
        self.project_encoder = nn.Linear(encoder_dim, dim)
        self.project_predictor = nn.Linear(predictor_dim, dim)
        self.output = nn.Linear(dim, vocabulary)

    def forward(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """(…, E) and (…, P), broadcast against each other -> unnormalised log-probabilities (…, V)."""
        return self.join(self.project_encoder(encoded), self.project_predictor(predicted))

    def join(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """The same for sides already projected: (…, J) and (…, J) -> (…, V)."""
        return self.output((encoded + predicted).tanh())
