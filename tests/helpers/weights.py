"""Weights that are published at an address."""

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch
from torchvision.models import VGG16_Weights

from vgg_nll.model import VGG16


def publish(folder: Path, model: VGG16, monkeypatch: pytest.MonkeyPatch, *, digest: str | None = None) -> Path:
    """Puts a network's weights where `IMAGENET1K_V1` is fetched from, and an empty cache beside it; returns their file.

    Args:
        digest: of the file's name, which PyTorch compares with the content; by default the right one.
    """
    file = folder / "there/vgg16.pth"
    file.parent.mkdir()
    torch.save(model.state_dict(), file)
    named = file.rename(file.with_name(f"vgg16-{digest or hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth"))
    enum = VGG16_Weights.IMAGENET1K_V1
    monkeypatch.setattr(enum, "_value_", dataclasses.replace(enum.value, url=named.as_uri()))
    monkeypatch.setenv("TORCH_HOME", str(folder / "cache"))
    return named
