"""The check of a GPU, on the CPU: it passes where all is well, and fails where it is not."""

import io

import pytest
import torch
from rich.console import Console

from clew.training import learner
from deploy import gpu_check

pytestmark = pytest.mark.science


def test_it_passes_on_a_cpu(tmp_path_factory: pytest.TempPathFactory) -> None:
    bench = gpu_check.Bench("cpu", tmp_path_factory.mktemp("bench"))
    said = io.StringIO()
    assert gpu_check.report_on(bench, Console(file=said, width=160)) == 0, said.getvalue()
    assert "6 passed, 0 failed" in said.getvalue()
    assert "bit for bit the same" in said.getvalue() or torch.get_num_threads() > 1


def test_it_fails_where_training_does_not_train(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner, "set_rate", lambda _optimizer, _rate: None)
    for checks in (gpu_check.parity, gpu_check.bfloat16):
        with pytest.raises(gpu_check.Failed):
            checks(gpu_check.Bench("cpu", tmp_path_factory.mktemp("bench")))


def test_no_gpu_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert gpu_check.main([]) == 2
    assert "no CUDA device" in capsys.readouterr().out
