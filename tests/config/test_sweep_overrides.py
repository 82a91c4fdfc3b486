"""The words of a sweep."""

import pytest

from vgg_nll.config import sweep_overrides
from vgg_nll.errors import ConfigError


def test_a_pattern_that_matches_nothing() -> None:
    with pytest.raises(ConfigError, match=r"trainer.steps=glob\(\*\): matches nothing; glob\(\) is for groups"):
        sweep_overrides.parse(["trainer.steps=glob(*)"])
    assert len(sweep_overrides.parse(["loss=glob(arg*)"]).values["loss"]) == 2
