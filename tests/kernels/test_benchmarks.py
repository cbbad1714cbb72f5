"""The benchmark harness, as far as it goes without a GPU."""

import json

import pytest
import torch

from riverrun.kernels.benchmarks import run
from riverrun.kernels.benchmarks.case import Row

ROW = Row("family", "name", "B1", "peer", 1e-6, 2.0, 8.0, 1.0, 10.0, None)


def test_every_family_has_cases():
    assert {case.family for case in run.cases()} == set(run.FAMILIES)


def test_bad_family_and_missing_gpu_are_one_clear_line(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for arguments, message in (["nothing"], "no kernel family 'nothing'"), ([], "need a CUDA GPU"):
        with pytest.raises(SystemExit) as stopped:
            run.main(arguments)
        error = capsys.readouterr().err
        assert stopped.value.code == 2 and message in error and error.count("\n") == 1


def test_table_and_json(tmp_path, monkeypatch):
    assert "| family: name | B1 | peer | 8 | 2 | 1 | 4 | 2 | – | 10 | 1.0e-06 |" in run.table([ROW])
    wrong = Row("family", "name", "B1", "", 1.0, None, None, 1.0, None, None)
    assert "WRONG" in run.table([wrong])
    monkeypatch.setattr(run, "machine", lambda: {"gpu": "none"})
    run.write_json([ROW], tmp_path / "rows.json")
    assert json.loads((tmp_path / "rows.json").read_text())["rows"][0]["ours_ms"] == 2.0
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]
