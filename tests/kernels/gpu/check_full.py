"""Every kernel at the full shapes of its benchmark, against its definition in float64, with repeats that are equal bit for bit."""

import pytest
import torch

from riverrun.kernels.benchmarks.case import check, definition
from riverrun.kernels.benchmarks.run import FAMILIES, cases

CASES = [case for family in FAMILIES for case in cases(family)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.family}: {case.name}, {case.shape}")
def test_case(case):
    expected, _ = definition(case)
    assert check(case, expected) <= case.tolerance
    del expected
    torch.cuda.empty_cache()
