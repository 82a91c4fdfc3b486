"""scripts/evaluate.py: the run's own numbers again, and one line for what cannot be evaluated."""

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, compose_config
from omegaconf import OmegaConf

from vgg_nll import evaluation, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    cfg = compose_config(*TINY, "trainer.epochs=2", "loss=all_logit", "data.noise=1.0")
    (folder / ".hydra").mkdir()
    OmegaConf.save(cfg, folder / ".hydra/config.yaml")
    run.train(cfg, folder, {})
    return folder


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Arguments -> exit code of `python scripts/evaluate.py <arguments>`."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments), "--device", "cpu"])
        try:
            runpy.run_path(str(ROOT / "scripts/evaluate.py"), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


def test_the_runs_own_numbers(finished: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture) -> None:
    assert evaluate(finished) == 0
    content = json.loads((finished / "evaluation/evaluation.json").read_text())
    trained = json.loads((finished / "metrics.json").read_text())
    assert content["test"] == trained["test"]
    assert (content["step"], content["split"], content["temperature"]) == (trained["best_step"], "test", 1.0)
    assert sum(row["images"] for row in content["classes"].values()) == 8
    assert (finished / "evaluation/reliability.png").stat().st_size > 5000
    assert f"accuracy{' ' * 11}" in capsys.readouterr().out


def test_other_splits_and_checkpoints(finished: Path, evaluate: Callable[..., int]) -> None:
    assert evaluate(finished, "--split", "val", "--checkpoint", "last") == 0
    content = json.loads((finished / "evaluation/evaluation.json").read_text())
    assert content["step"] == 12
    assert content["val"].keys() == json.loads((finished / "metrics.json").read_text())["val"].keys()


def test_temperature(finished: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture) -> None:
    """The same predictions; on the images that it was fitted to, the loss can only fall."""
    assert evaluate(finished, "--split", "val", "--temperature") == 0
    content = json.loads((finished / "evaluation/evaluation.json").read_text())
    assert f"temperature {content['temperature']:.4f}, fitted to 8 validation images" in capsys.readouterr().out
    assert content["val at T"]["accuracy"] == content["val"]["accuracy"]
    assert content["val at T"]["nll_argmax"] < content["val"]["nll_argmax"]
    sums = evaluation.evaluate(evaluation.open_run(finished, device="cpu"), "val", content["temperature"])
    assert float(sums.nll_argmax / sums.images) == pytest.approx(content["val at T"]["nll_argmax"])


def test_no_temperature_where_all_is_right(
    finished: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least would be at 0: sure of everything, whatever the test says."""
    opened = evaluation.open_run(finished, device="cpu")
    for shift in (0, 1):  # all right, all wrong
        labels = [(target + shift) % 2 for _, target in opened.data.eval_batches("val")]
        with monkeypatch.context() as patch:
            patch.setattr("vgg_nll.model.VGG16.forward", lambda self, images, labels=labels: 3 * torch.eye(2)[labels.pop(0)])
            assert evaluation.fit_temperature(opened) is None
    monkeypatch.setattr(evaluation, "fit_temperature", lambda _: None)
    assert evaluate(finished, "--temperature") == 0
    assert "no temperature: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "arguments", "words"),
    [
        (lambda folder: None, ["--split", "tset"], "--split tset: this data set has train, val, test"),
        (lambda folder: None, ["--checkpoint", "previous"], ""),
        (lambda folder: (folder / ".hydra/config.yaml").unlink(), [], "holds no run"),
        (lambda folder: (folder / ".hydra/config.yaml").write_text("- 1\n"), [], "is not a run's config"),
        (lambda folder: (folder / ".hydra/config.yaml").write_text("seed: 0\n"), [], ""),
        (lambda folder: (folder / "checkpoints/best.pt").unlink(), [], "there is no such checkpoint"),
        (lambda folder: (folder / "checkpoints/best.pt").write_bytes(b"x"), [], "damaged"),
        (lambda folder: torch.save({"format_version": 1, "model": {}}, folder / "checkpoints/best.pt"), [], "does not fit its"),
        (
            lambda folder: OmegaConf.save(
                OmegaConf.merge(compose_config(*TINY), {"loss": {"_target_": "os.system"}}), folder / ".hydra/config.yaml"
            ),
            [],
            "asks to run os.system, which no file in configs/ names",
        ),
    ],
)
def test_bad_input(
    finished: Path,
    tmp_path: Path,
    evaluate: Callable[..., int],
    capsys: pytest.CaptureFixture,
    spoil: Callable,
    arguments: list,
    words: str,
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    shutil.rmtree(folder / "evaluation", ignore_errors=True)
    (folder / "checkpoints/previous.pt").unlink(missing_ok=True)
    spoil(folder)
    assert evaluate(folder, *arguments) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (folder / "evaluation").exists()
