"""`resume=<run folder>`: the config that the run has saved, with what is typed now on top."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from vgg_nll.cli import torchrun
from vgg_nll.cli.arguments import escaped, path_of
from vgg_nll.config import schema
from vgg_nll.config.compose import CONFIGS, is_override, key_of
from vgg_nll.errors import CheckpointError, ConfigError
from vgg_nll.run_folder import checked_json, checksums, paths
from vgg_nll.run_folder.record import RunRecord

# What a resumed run must share with its first part, unless `resume_strict=false`; else it would be another run.
FIXED_ON_RESUME = (
    *("seed.", "model.", "data.", "augment.", "loss.", "optimizer."),
    *("trainer.batch_size.", "trainer.ema_decay.", "trainer.best."),
)
FREE_ON_RESUME = (
    *(
        "optimizer.lr",
        "data.num_workers",
        "data.download",
        "data.root",
        "data.labels",
        "data.on_error",
        "data.max_bad_fraction",
    ),
    *("data.max_megapixels", "model.weights"),
)
# What gives a finished run something to do.
LENGTH = ("trainer.epochs", "trainer.steps", "trainer.early_stop_validations")
FRESH, RESUMED = "train", "resumed"  # names of the main config: a file in configs/, and the saved config of a run


def prepare(arguments: Sequence[str]) -> tuple[list[str], str, RunRecord | None]:
    """Returns the arguments for Hydra, the name of the main config that they change, and the record of the run to resume.

    With `resume=<run folder>` the main config is that of the record, put into Hydra's store. Nothing of the folder is replayed
    or interpolated.

    Raises CheckpointError if the folder holds no run, ConfigError for what does not go with `resume=`.
    """
    folder = path_of("resume", arguments)
    if folder is None and any(key_of(argument) == "resume" for argument in arguments):
        raise ConfigError("resume=: is empty; it takes a run folder")
    if folder is None or str(folder) == "null":
        return list(arguments), FRESH, None
    typed = [argument for argument in arguments if key_of(argument) != "resume"]
    _check_arguments(folder, typed)
    groups = _chosen_groups(typed)
    targets = frozenset(item.partition("=")[2] for item in typed if key_of(item).endswith("_target_"))
    try:
        record = RunRecord.open(folder)
        paths.refuse_links(folder)
        record.check(folder, typed_targets=targets, without=groups)
    except CheckpointError as error:
        raise CheckpointError(f"resume={folder}: {error}") from error
    _store({key: value for key, value in record.config.items() if key not in groups}, folder)
    return typed, RESUMED, record


def check_new(folder: Path) -> None:
    """Raises ConfigError or CheckpointError if a new run cannot begin in its folder."""
    if not folder.is_dir():
        return
    if paths.holds_run(folder):
        raise ConfigError(f"hydra.run.dir={folder}: {paths.how_to_continue(folder)}")
    paths.refuse_links(folder)


def check(before: RunRecord, now: RunRecord, cfg: DictConfig) -> None:
    """Raises ConfigError if a resumed run would no longer be the same. A finished run ends the process."""
    folder = Path(cfg.resume)
    was, new = schema.leaves(before.config), schema.leaves(now.config)
    _check_same_run(folder, was, new, cfg.resume_strict)
    _end_if_finished(folder, before.run_id, was, new)
    _check_state(folder)


def _check_arguments(folder: Path, typed: Sequence[str]) -> None:
    """Raises an error if there is no such folder, or if what is typed does not go with it."""
    if any(key_of(argument) == "hydra.run.dir" for argument in typed):
        raise ConfigError(f"resume={folder}: continues in that folder; leave out hydra.run.dir")
    if not folder.is_dir():
        raise CheckpointError(f"resume={folder}: there is no such folder")


def _check_state(folder: Path) -> None:
    """Raises CheckpointError if there is no state to continue from."""
    if paths.has_checkpoint(folder):
        return
    if (folder / paths.BEST).is_file():
        why = f" (checkpoint.keep=best removed it); model.weights={folder / paths.BEST} starts a new run from its weights"
    else:
        why = " (its checkpoints were never written: start it again)" if paths.holds_run(folder) else ""
    raise CheckpointError(f"resume={folder}: holds no run to continue: there is no {paths.LAST}{why}")


def _store(before: Mapping[str, Any], folder: Path) -> None:
    """Puts a saved config into Hydra's store, as a main config that group choices and overrides can change.

    A group that is chosen again is not in `before`; its place in the list of defaults is empty.
    """
    log, is_first = escaped(str((folder / paths.LOG).absolute())), torchrun.rank() == 0
    content = {
        "defaults": [{"hydra": "runs"}, "_self_", *({group: None} for group in schema.groups()), {"experiment": None}],
        **before,
        "resume": escaped(str(folder)),
        "resume_strict": True,
        # Not run.dir: Hydra takes a folder's name for an interpolation, once more, however it is escaped.
        "hydra": {"run": {"dir": os.sep}, **({"job_logging": {"handlers": {"file": {"filename": log}}}} if is_first else {})},
    }
    ConfigStore.instance().store(RESUMED, content)


def _chosen_groups(typed: Sequence[str]) -> set[str]:
    """Returns the groups that are chosen again: by name, or by an experiment."""
    chosen = {key_of(item) for item in typed if is_override(item)}
    for item in typed:
        path = CONFIGS / "experiment" / f"{item.partition('=')[2]}.yaml"
        if key_of(item) == "experiment" and path.is_file():
            for part in yaml.safe_load(path.read_text(encoding="utf-8")).get("defaults", []):
                chosen |= {str(name).split("/")[-1] for name in part} if isinstance(part, dict) else set()
    return chosen & set(schema.groups())


def _check_same_run(folder: Path, before: dict[str, Any], now: dict[str, Any], strict: bool) -> None:
    changed = [
        f"{key}={str(before.get(key))[:200]} (now {now.get(key)})"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key not in FREE_ON_RESUME and f"{key}.".startswith(FIXED_ON_RESUME)
    ]
    if changed and strict:
        raise ConfigError(
            f"resume={folder}: was made with {', '.join(changed)}; drop the override, start a new run, or take the difference "
            "with resume_strict=false"
        )
    if changed:
        print(f"warning: continues as another run: it was made with {', '.join(changed)}", file=sys.stderr)


def _is_more(now: Any, was: Any) -> bool:
    """Returns whether a length has grown; `was` is not checked if its group is chosen again, and is no number then, perhaps."""
    return now != was and (now is None or not isinstance(was, (int, float)) or now > was)


def _end_if_finished(folder: Path, run_id: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Ends the process with a line if the run is finished, unless it has more to do now."""
    was = {key: before.get(key) for key in LENGTH}
    if not (folder / paths.DONE).exists() or any(_is_more(now[key], was[key]) for key in LENGTH):
        return
    try:
        metrics = checked_json.read(folder / paths.METRICS, run_id)
        problems = checksums.find_problems(folder, checksums.other_files(metrics, run_id))
    except CheckpointError as error:
        problems = [str(error)]
    for problem in problems:
        print(f"warning: {problem}; the run is evaluated again", file=sys.stderr)
    if problems:
        return
    length = next(f"{key}={was[key]}" for key in ("trainer.steps", "trainer.epochs") if was[key] is not None)
    print(
        f"{folder} is finished ({length}): nothing was changed. A larger number continues it, "
        "or, if it stopped early, a larger trainer.early_stop_validations."
    )
    sys.exit(0)
