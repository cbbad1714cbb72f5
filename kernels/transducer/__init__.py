"""Transducer (RNN-T) losses: full, over a joiner whose output never exists whole, and pruned."""

from .loss import joint_rnnt_loss, rnnt_loss
from .pruned import do_rnnt_pruning, get_rnnt_prune_ranges, rnnt_loss_pruned, rnnt_loss_simple

__all__ = ["do_rnnt_pruning", "get_rnnt_prune_ranges", "joint_rnnt_loss", "rnnt_loss", "rnnt_loss_pruned", "rnnt_loss_simple"]
