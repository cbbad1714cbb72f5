"""The benchmark harness, as far as it goes without a GPU."""

import dataclasses
import json
import sys
import time

import pytest
import torch

from riverrun.kernels.benchmarks import render, run
from riverrun.kernels.benchmarks.case import Case, Peer, Row, check

PEERS = {"slow": Peer(8.0, 20.0, 1e-6), "fast": Peer(4.0, None, 1e-6), "missing": Peer(failure="ImportError: no module")}
ROW = Row("family", "name", "B1", 1e-6, 1e-3, 2.0, 10.0, 50.0, 1.0, "bytes", PEERS)
LOSER = Row("family", "other", "B1", 1e-6, 1e-3, 2.0, 10.0, 50.0, 1.0, "flops", {"only": Peer(1.0)})

#: A worker that dies while it checks its second case, the first time round, and hangs when told to.
WORKER = """
import json, sys, time
emit = lambda **said: print(json.dumps(said), flush=True)
mode, done = sys.argv[1], {int(x) for x in sys.argv[3].split(",") if x}
if mode == "broken":
    sys.exit("ImportError: nothing works")
for index in range(4):
    if index not in done:
        emit(kind="checking", index=index)
        if index == 3 and not json.loads(sys.argv[5]):
            emit(kind="broken", index=3, peer="other")
            sys.exit("CUDA error: a peer")
        if index == 1:
            sys.exit("CUDA error: an illegal memory access was encountered")
print("a library that prints")
emit(kind="ready")
order = json.loads(sys.stdin.readline())
for index in range(4):
    if index not in done:
        if mode == "hangs" and index == 2:
            time.sleep(60)
        emit(kind="row", index=index, row={"family": "viterbi", "name": "", "shape": "", "ours_ms": order["bandwidth"]})
"""


def worker(tmp_path, mode, seconds=60):
    (tmp_path / "worker.py").write_text(WORKER)
    command = sys.executable, str(tmp_path / "worker.py"), mode
    return run.Worker("viterbi", "measure", time.monotonic() + seconds, command)


def test_every_family_has_cases():
    assert all({case.family for case in run.cases(family)} == {family} for family in run.FAMILIES)


def test_a_case_that_kills_its_process_costs_its_own_row(tmp_path):
    works = worker(tmp_path, "dies")
    assert works.warm(time.monotonic() + 60)
    works.time('{"bandwidth": 3.0}')
    assert {index: row.ours_ms for index, row in works.rows.items()} == {0: 3.0, 1: None, 2: 3.0, 3: 3.0}
    assert works._broken == [(3, "other")]
    assert works.rows[1].failure == "the process died: CUDA error: an illegal memory access was encountered"


def test_time_runs_out_and_processes_that_never_work(tmp_path):
    hangs, broken = worker(tmp_path, "hangs", 2), worker(tmp_path, "broken")
    hangs.warm(time.monotonic() + 60)
    hangs.time('{"bandwidth": 3.0}')
    assert [hangs.rows[i].failure for i in (0, 2, 3)] == ["", "out of time", "out of time"]
    assert broken.warm(time.monotonic() + 60)
    broken.time("{}")
    assert {row.failure for row in broken.rows.values()} == {"the process died: ImportError: nothing works"} and len(broken.rows) == 4


def test_a_kernel_must_be_right_and_repeat_itself():
    calls = []

    def unsteady(x):
        calls.append(x)
        return x + len(calls)

    def case(ours, **options):
        return Case("family", "name", "", lambda seed: (torch.ones(3),), torch.square, ours, lambda x: x.nbytes, **options)

    assert check(case(lambda x: x * x), [torch.ones(3)]) == 0
    assert check(case(lambda x: x * 2), [torch.ones(3)]) == 1
    assert check(case(lambda x: x[:2]), [torch.ones(3)]) == float("inf")
    assert check(case(unsteady, deterministic=False), [torch.ones(3) * 2]) == 0
    with pytest.raises(RuntimeError, match="a repeat gave other bits"):
        check(case(unsteady), [torch.ones(3)])


def test_bad_family_and_missing_gpu_are_one_clear_line(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for arguments, message in (["nothing"], "no kernel family 'nothing'"), ([], "need a CUDA GPU"):
        with pytest.raises(SystemExit) as stopped:
            run.main(arguments)
        error = capsys.readouterr().err
        assert stopped.value.code == 2 and message in error and error.count("\n") == 1


def test_table_and_results(tmp_path, monkeypatch, capsys):
    assert "| family: name | B1 | 50 | fast | 4 | 2 | 1 bytes | 2 | 2 | – | 10 | 1.0e-06 |" in render.table([ROW])
    wrong = Row("family", "name", "B2", 1.0, failure="wrong")
    assert "| 1.0e+00 WRONG |" in render.table([wrong])
    monkeypatch.setattr(run, "machine", lambda: {"date": "2026-11-24", "gpu": "none", "torch": "2.11.0"})
    run.write_json(run.Measured([ROW, LOSER, wrong], []), tmp_path / "rows.json")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]
    saved = json.loads((tmp_path / "rows.json").read_text())
    assert render.row_of(saved["rows"][0]) == ROW and dataclasses.asdict(ROW) == saved["rows"][0]
    monkeypatch.setattr(render, "REASONS", tmp_path / "reasons.json")
    monkeypatch.setattr(render, "NOTES", tmp_path / "notes.md")
    render.NOTES.write_text("## Whole models\n\nFaster.\n")
    render.REASONS.write_text(json.dumps({"family: other, B1": "It is bound by launches."}))
    assert render.main([str(tmp_path / "rows.json")]) == 0
    text = capsys.readouterr().out
    assert "One none, 2026-11-24; torch 2.11.0." in text
    assert "| family: name | B1 | missing | – | – | ImportError: no module |" in text
    assert "- family: other, B1 (0.5 × only): It is bound by launches." in text
    assert "- family: name, B2 (wrong): not explained yet." in text
    assert text.endswith("not explained yet.\n\n## Whole models\n\nFaster.\n")
    assert render.main([]) == 2


def test_a_later_run_replaces_what_it_could_time():
    slow, late = dataclasses.replace(ROW, ours_ms=3.0), Row("family", "other", "B1", failure="out of time")
    first, second = ({"machine": {"date": "2026-11-24", "gpu": gpu}, "rows": [dataclasses.asdict(row) for row in rows]}
                     for gpu, rows in (("one", [slow, LOSER]), ("two", [ROW, late])))  # fmt: skip
    assert render.latest([first, second]) == ([ROW, LOSER], [2, 1])
    text = render.results([first, second], {})
    assert "Run 1: one one, 2026-11-24; ." in text and "Run 2: one two, 2026-11-24; ." in text
    assert "| 1.0e-06 | 2 |" in text


def test_a_peer_that_a_later_run_lacked_keeps_its_time_and_says_of_which_run():
    absent = dataclasses.replace(ROW, peers={name: Peer(failure="ImportError: no module") for name in ROW.peers})
    runs = [{"machine": {"date": "2026-11-24", "gpu": "one"}, "rows": [dataclasses.asdict(row)]} for row in (ROW, absent)]
    (row,), _ = render.latest(runs)
    assert row.peers["fast (run 1)"] == ROW.peers["fast"] and row.peer_name == "fast (run 1)"
    assert row.peers["missing"].failure == "ImportError: no module"


def test_tuning_shows_the_best_first():
    tried = [{"family": "f", "name": "n", "shape": "s", "key": "k", "candidate": c, "ms": ms, "failure": why, "shipped": c == "a"}
             for c, ms, why in (("a", 2.0, ""), ("b", None, "wrong"), ("c", 1.0, ""))]  # fmt: skip
    lines = render.tuning_table(tried).splitlines()[2:]
    assert [line.split(" | ")[3] for line in lines] == ["c", "a", "b"]
    assert lines[0].endswith("| 1 | best |") and lines[1].endswith("| shipped |") and lines[2].endswith("| wrong |")
