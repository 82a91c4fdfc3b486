"""Every recipe runs: two steps on stand-in data, at a sixteenth of the width, as a process of its own would start it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.configs import ROOT, Config
from helpers.pictures import write_stand_in
from omegaconf import OmegaConf

from vgg_nll.model import VGG16, head_for

RECIPES = sorted(path.stem for path in (ROOT / "configs/experiment").glob("*.yaml"))
WIDTH = 1 / 16
SHORT = (f"model.width={WIDTH}", "trainer.steps=2", "trainer.batch_size=4", "device=cpu", "tracking=none")


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("loss", ["argmax", "all_logit"])
def test_a_recipe_runs(
    name: str, loss: str, config: Config, command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = config(f"experiment={name}")
    options = [f"experiment={name}", f"loss={loss}", *SHORT]
    if OmegaConf.is_missing(cfg.data, "root") or "root" in cfg.data:
        write_stand_in(cfg.data.source._target_.rpartition(".")[2], tmp_path / "data", monkeypatch)
        options.append(f"data.root={tmp_path}/data")
    if "num_workers" in cfg.data:
        options += ["data.num_workers=0", "data.image_size=32"]
    if cfg.model.weights is not None:
        theirs = VGG16(7, batch_norm=cfg.model.batch_norm, head=head_for(32), width=WIDTH)
        torch.save(theirs.state_dict(), tmp_path / "w.pth")
        options.append(f"model.weights={tmp_path}/w.pth")
    assert command(*options) == 0
    assert len(list(tmp_path.rglob("DONE"))) == 1


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_to_expect(name: str) -> None:
    head = (ROOT / "configs/experiment" / f"{name}.yaml").read_text().partition("defaults:")[0]
    assert f"experiment={name} " in head
    assert name == "overfit" or "not yet run" in head or "docs/results.md" in head
