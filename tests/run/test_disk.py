"""What checkpoints take, compared with what they do take; and a disk that is too small."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.configs import TINY
from helpers.runs import train

from vgg_nll.errors import ConfigError
from vgg_nll.run import disk
from vgg_nll.run_folder import paths
from vgg_nll.training.trainer import Trainer

SMALL = (*TINY, "trainer.steps=2")


class Usage(NamedTuple):
    """What shutil.disk_usage returns."""

    total: int
    used: int
    free: int


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    "overrides", [[], ["optimizer=sgd", "optimizer.lr=0.01"], ["trainer.ema_decay=0.9"], ["model.freeze=features"]]
)
def test_the_sizes_are_those_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]) -> None:
    """To 2%, or 60 kB of names and numbers: files hold little else."""
    said: list[tuple[int, int]] = []
    fit = Trainer.fit
    monkeypatch.setattr(Trainer, "fit", lambda self: (said.append(self.state.bytes_on_disk()), fit(self))[1])
    train(tmp_path, *SMALL, *overrides)
    ((weights, whole),) = said
    assert (tmp_path / paths.BEST).stat().st_size == pytest.approx(weights, rel=0.02, abs=60_000)
    assert (tmp_path / paths.LAST).stat().st_size == pytest.approx(whole, rel=0.02, abs=60_000)
    assert not (tmp_path / paths.PREVIOUS).exists()  # of a finished run it would serve nothing


def test_a_small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 100_000))
    with pytest.raises(ConfigError, match=r"has 0\.0 GB left on its disk, and the checkpoints take 0\.0 GB while"):
        train(tmp_path, *SMALL)
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize(
    ("sizes", "keep", "words"),
    [
        ((553, 1660), "all", "checkpoints: 5.5 GB while it trains, 2.2 GB after the end; checkpoint.keep=best leaves 0.6 GB"),
        ((553, 1660), "best", "checkpoints: 5.5 GB while it trains, 0.6 GB after the end"),
        ((59, 177), "all", ""),
    ],
)
def test_much_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, sizes: tuple[int, int], keep: str, words: str) -> None:
    class State:
        def bytes_on_disk(self) -> tuple[int, int]:
            return sizes[0] * 10**6, sizes[1] * 10**6

    caplog.set_level("INFO")
    disk.check_disk(tmp_path, State(), keep=keep)
    assert caplog.messages == [words] * bool(words)
