"""A key that the program reads by name, and that older records lack, has a line in the table that fills them."""

from pathlib import Path

import pytest
from helpers.configs import Config

from vgg_nll.config import schema, upgrade
from vgg_nll.errors import CheckpointError

# The keys of every record of format 2. A newer key does not go in here, but into `upgrade.SINCE`.
OF_FORMAT_2 = (
    *("seed", "name", "device", "resume", "resume_strict", "checkpoint.every_steps", "checkpoint.keep"),
    *("model.head", "model.weights", "model.freeze", "optimizer.lr", "optimizer.backbone_lr_scale", "schedule.warmup_epochs"),
    *("trainer.epochs", "trainer.steps", "trainer.batch_size", "trainer.eval_batch_size", "trainer.accumulation_steps"),
    *("trainer.clip_norm", "trainer.ema_decay", "trainer.precision", "trainer.deterministic", "trainer.compile"),
    *("trainer.log_every_steps", "trainer.validate_every_epochs", "trainer.figures_every_epochs"),
    *("trainer.early_stop_validations", "trainer.prune_against", "trainer.sync_batchnorm", "trainer.gradient_compression"),
    *("trainer.bucket_mb", "trainer.profile"),
)


def test_older_records_lack_no_key(config: Config) -> None:
    leaves = schema.leaves(config())
    of_program = {key for key in leaves if f"{key.rpartition('.')[0]}._target_".lstrip(".") not in leaves}
    kept = {upgrade.renamed(key, 2) for key in OF_FORMAT_2 if upgrade.CHANGED.get(key, (0, ""))[1] is not None}
    new = (of_program | set(schema.REQUIRED)) - kept
    assert new == set(upgrade.SINCE), "a new key needs a line in upgrade.SINCE, and a FORMAT that is one higher"
    assert all(2 < since <= upgrade.FORMAT for since, _ in upgrade.SINCE.values())


@pytest.mark.parametrize("written", [0, True, "2", 2.0])
def test_a_format_is_a_number_from_one_on(written: object) -> None:
    with pytest.raises(CheckpointError, match=r"^run\.json: is damaged: it has no valid format$"):
        upgrade.checked_format(Path("run.json"), {"format": written})
