"""The link to TensorBoard: what the page reads from it."""

import json
import re
import shlex
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest

from vgg_nll.config.compose import names_of
from vgg_nll.tracking import dashboard, tags

LOSSES = names_of("loss")


def settings(port: int = 6006) -> dict[str, str]:
    address = urlparse(dashboard.link(LOSSES, port))
    assert (address.scheme, address.netloc, address.fragment) == ("http", f"localhost:{port}", "timeseries")
    return {key: value for key, (value,) in parse_qs(address.query).items()}


def test_six_cards_are_pinned() -> None:
    found = settings(6007)
    cards = json.loads(found["pinnedCards"])
    assert [card["plugin"] for card in cards] == ["scalars"] * 6
    assert [card["tag"] for card in cards] == [
        *("accuracy/val", "confidence/mean", "confidence/incorrect", "calibration/ece", "nll/argmax", "confidence/margin"),
    ]
    assert {card["tag"] for card in cards} <= set(tags.VALIDATION.values())
    assert found["smoothing"] == "0"
    assert not re.search(r"[\s\"'<>|()]", dashboard.link(LOSSES))  # a terminal takes all of it as one link


@pytest.mark.parametrize(
    ("run", "loss"),
    [
        ("train/2026-11-27_06-30-00-123456_vgg16_bn_all_logit", "all_logit"),
        ("train/2026-11-27_06-30-00-123456_vgg16_argmax", "argmax"),
        ("2026-11-27_06-30-00-123456_vgg16_argmax_prediction", "argmax_prediction"),
        ("argmax_study/loss=all_logit,seed=0", "all_logit"),
        ("seed=0,loss=argmax", "argmax"),
        ("mean/loss=argmax", "argmax"),
        ("sweeps/lr/optimizer.lr=0.1,seed=0", None),
    ],
)
def test_a_colour_per_loss(run: str, loss: str | None) -> None:
    """TensorBoard gives one colour to the runs whose names have the same group."""
    pattern = settings()["runColorGroup"].removeprefix("regex:")
    match = re.search(pattern, run)
    assert (match and match.groups()) == (loss and (loss,))


def test_the_command_can_be_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "my runs; rm"
    words = shlex.split(dashboard.command(folder))
    assert Path(words[0]).name == "tensorboard"
    assert words[1:] == ["--logdir", str(folder), "--samples_per_plugin", "images=100"]
