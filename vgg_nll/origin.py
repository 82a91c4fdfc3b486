"""What a run was started with: kept in its folder, and compared with what is there when it is resumed."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vgg_nll import records, run_folder
from vgg_nll.config import saved, shape
from vgg_nll.data.interface import ImageData
from vgg_nll.errors import CheckpointError, DataError
from vgg_nll.files import atomic_write, expanded

log = logging.getLogger(__name__)
MAX_NAMES = 5  # in a message


@dataclass(frozen=True)
class Origin:
    """What a run was started with.

    Attributes:
        cfg: plain data, without interpolations, and without anything about resuming.
        resume: the name of the run that is resumed, for messages; None for a new run.
        choices: what was chosen in each config group ({"loss": "all_logit", ...}); overrides: of the command line; for reports.
        data: classes, sizes and digest of the data that the run began with; empty for a new run.
    """

    cfg: DictConfig
    folder: Path
    run_id: str
    resume: str | None
    resume_strict: bool
    choices: Mapping[str, str]
    overrides: Sequence[str]
    data: Mapping[str, Any]

    @classmethod
    def of(cls, cfg: DictConfig, folder: Path, choices: Mapping[str, str], overrides: Sequence[str]) -> "Origin":
        """Returns that of a new run; or, with `cfg.resume`, that of the run in the folder, with what is typed now on top.

        Raises CheckpointError if the folder's files are damaged.
        """
        plain = OmegaConf.create(saved.plain(cfg))
        chosen = {group: choice for group, choice in choices.items() if choice is not None}
        if cfg.resume is None:
            return cls(plain, folder, records.new_run_id(), None, True, chosen, list(overrides), {})
        try:
            _, run_id = records.read_yaml(folder / run_folder.CONFIG)
            before = _read(folder / run_folder.RUN, run_id)
        except CheckpointError as error:
            raise CheckpointError(f"resume={cfg.resume}: {error}") from error
        anew = tuple(f"{override.partition('=')[0]}=" for override in overrides)
        merged = [override for override in before["overrides"] if not override.startswith(anew)] + list(overrides)
        choices = before["choices"] | chosen
        return cls(plain, folder, run_id, cfg.resume, cfg.resume_strict, choices, merged, before["data"])

    def check_same_data(self, data: ImageData) -> None:
        """Raises DataError with the differences if the data of a resumed run has changed; a warning if it may differ."""
        now = describe(data)
        if not self.data or self.data == now:
            return
        differences = "; ".join(_differences(self.data, now))
        if self.resume_strict:
            raise DataError(
                f"resume={self.resume}: its data has changed: {differences}; restore it, start a new run, or take it as it is "
                "with resume_strict=false"
            )
        log.warning(f"warning: continues with other data: {differences}")

    def write(self, data: ImageData) -> None:
        """Writes the config, the overrides and run.json into the folder, each file whole."""
        (self.folder / run_folder.HYDRA).mkdir(exist_ok=True)
        content: dict[str, Any] = OmegaConf.to_container(self.cfg)  # type: ignore[assignment]
        if "root" in content["data"]:  # the run may be opened from another working folder
            content["data"]["root"] = str(expanded(content["data"]["root"]).absolute())
        # The config last: with it, the folder has an identity that the other files must share.
        origin = {"choices": dict(self.choices), "overrides": list(self.overrides), "data": describe(data)}
        records.write_json(self.folder / run_folder.RUN, origin, self.run_id)
        atomic_write(self.folder / run_folder.OVERRIDES, OmegaConf.to_yaml(list(self.overrides)))  # a record for people
        records.write_yaml(self.folder / run_folder.CONFIG, content, self.run_id)


def describe(data: ImageData) -> dict[str, Any]:
    """Returns what must not change while a run is interrupted."""
    return {"classes": list(data.class_names), "sizes": dict(data.sizes), "digest": data.digest}


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns what differs, in words."""
    found = []
    gone = [name for name in before["classes"] if name not in now["classes"]]
    new = [name for name in now["classes"] if name not in before["classes"]]
    if gone or new:
        found.append(f"classes {', '.join(gone[:MAX_NAMES]) or 'none'} -> {', '.join(new[:MAX_NAMES]) or 'none'}")
    elif before["classes"] != now["classes"]:
        found.append("the order of the classes")
    for split in sorted(before["sizes"].keys() | now["sizes"].keys()):
        was, has = (sizes.get(split, 0) for sizes in (before["sizes"], now["sizes"]))
        if was != has:
            found.append(f"{split} {was} -> {has} images")
    return found or ["other images of the same number"]


def _read(path: Path, run_id: str) -> dict[str, Any]:
    content = records.read_json(path, run_id)
    match content:
        case {
            "choices": dict(choices),
            "overrides": list(overrides),
            "data": {"classes": list(classes), "sizes": dict(sizes), "digest": str(digest)},
        }:
            texts, numbers = (*choices.values(), *overrides, *classes, digest), sizes.values()
            short = all(isinstance(text, str) and len(text) <= shape.MAX_TEXT for text in texts)
            if short and all(isinstance(number, int) for number in numbers):
                return content
    raise CheckpointError(f"{path}: is damaged: it does not hold what a run writes")
