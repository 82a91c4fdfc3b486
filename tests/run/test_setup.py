"""What a run does before it builds anything."""

import pytest
import torch
from helpers.configs import Config

from vgg_nll.errors import ConfigError
from vgg_nll.run import build, setup


def test_more_ranks_than_gpus(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the ranks wait for each other. Nothing else asks for them: a script takes the device as it is."""
    cfg = config()
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(build, "choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert build.make_device(cfg.device) == torch.device("cuda")
    with pytest.raises(ConfigError, match=r"^device=\w+: 2 ranks on a machine of 1 GPUs; torchrun --nproc-per-node=1, or"):
        setup.meet(cfg)
