"""`run.json`: what a run is. Whoever opens a run folder reads this, and nothing else, to learn that."""

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vgg_nll.config import rules, schema, upgrade
from vgg_nll.config.compose import key_of
from vgg_nll.config.rule import Rule
from vgg_nll.errors import CheckpointError, ConfigError
from vgg_nll.files import atomic_write, expanded
from vgg_nll.run_folder import checked_json
from vgg_nll.run_folder.paths import CONFIG, HYDRA, OVERRIDES, RUN, check_holds_run

MAX_NAMES = 5  # in a message
_PIXELS = Rule(float, items=3)  # a mean or deviation of pixels
COPY = f"# A copy for people, which no program reads: settings are changed on the command line. {RUN} is what counts.\n"


@dataclass(frozen=True)
class DataRecord:
    """What must not change in a run's data while it is interrupted: class names, images per split, a hash of them all."""

    classes: Sequence[str]
    sizes: Mapping[str, int]
    digest: str

    def differences(self, now: "DataRecord") -> list[str]:
        """Returns what differs now, in words; an empty list if nothing does."""
        if self == now:
            return []
        found = []
        gone = [name for name in self.classes if name not in now.classes]
        new = [name for name in now.classes if name not in self.classes]
        if gone or new:
            found.append(f"classes {', '.join(gone[:MAX_NAMES]) or 'none'} -> {', '.join(new[:MAX_NAMES]) or 'none'}")
        elif self.classes != now.classes:
            found.append("the order of the classes")
        for split in sorted(self.sizes.keys() | now.sizes.keys()):
            was, has = (sizes.get(split, 0) for sizes in (self.sizes, now.sizes))
            if was != has:
                found.append(f"{split} {was} -> {has} images")
        return found or ["other images of the same number"]


@dataclass(frozen=True)
class RunRecord:
    """What a run is.

    Attributes:
        run_id: its identity, which its other files hold, too; version: of vgg-nll, when it was written.
        choices: what was chosen in each config group ({"loss": "all_logit", ...}); overrides: of the command line; for reports.
        config: every setting, as plain data: without interpolations, and without what `resume=` says.
        data, preprocessing: of the data set (size, mean, deviation); None until it is there.
    """

    run_id: str
    version: str
    choices: Mapping[str, str]
    overrides: Sequence[str]
    config: Mapping[str, Any]
    data: DataRecord | None = None
    preprocessing: Mapping[str, Any] | None = None

    @classmethod
    def new(cls, cfg: DictConfig, choices: Mapping[str, str | None] = {}, overrides: Sequence[str] = ()) -> "RunRecord":
        """Returns the record of a new run. Raises ConfigError with one line for every error of the config."""
        config = _storable(rules.check(cfg))
        chosen = {group: choice for group, choice in choices.items() if choice is not None and not group.startswith("hydra")}
        return cls(checked_json.new_run_id(), _version(), chosen, list(overrides), config)

    @classmethod
    def open(cls, folder: Path) -> "RunRecord":
        """Returns the record of a run folder, in today's words. Its values are not checked: `check` does that.

        Raises CheckpointError if there is none, if it is damaged, or if it was written by a newer program.
        """
        check_holds_run(folder)
        path = folder / RUN
        content, run_id = checked_json.read_with_id(path)
        written = upgrade.checked_format(path, content)
        if written is None:
            raise CheckpointError(
                f"{path}: is of a run from before records had a format, which cannot be opened any more; its weights can: "
                f"model.weights={folder} starts a new run from them"
            )
        return cls._parse(path, content, run_id, written)

    @classmethod
    def _parse(cls, path: Path, content: Mapping[str, Any], run_id: Any, written: int) -> "RunRecord":
        match content:
            case {
                "version": str(version),
                "choices": dict(choices),
                "overrides": list(overrides),
                "config": dict(config),
                "data": {"classes": [*classes], "sizes": dict(sizes), "digest": str(digest)},
                "preprocessing": {"image_size": int(), "resize": int(), "mean": list(mean), "std": list(std)} as preprocessing,
            } if isinstance(run_id, str) and classes and _PIXELS.find_error(mean) is _PIXELS.find_error(std) is None:
                short = all(
                    isinstance(text, str) and len(text) <= schema.MAX_TEXT for text in (*choices.values(), *overrides, digest)
                )
                if short and all(isinstance(name, str) for name in classes) and all(type(n) is int for n in sizes.values()):
                    return cls(
                        run_id,
                        version,
                        upgrade.renamed_choices(choices, written),
                        [upgrade.renamed_override(override, written) for override in overrides],
                        upgrade.upgrade(config, written),
                        DataRecord(classes, sizes, digest),
                        preprocessing,
                    )
        raise CheckpointError(f"{path}: is damaged: it does not hold what a run writes")

    @cached_property
    def cfg(self) -> DictConfig:
        """The config to build from: where it says `auto` for the mean and deviation of the pixels, those that were measured."""
        cfg = OmegaConf.create(dict(self.config))
        for name in ("mean", "std"):
            if self.preprocessing is not None and cfg.data.get(name) == "auto":
                cfg.data[name] = list(self.preprocessing[name])
        return cfg

    @property
    def stored_config(self) -> dict[str, Any]:
        """The config as run.json holds it, since a run may be opened from another working folder, and its data may move.

        `data.root` is absolute; `data.labels`, too, unless it lies in the root: then it is what follows that.
        """
        content = dict(self.config)
        data = dict(content["data"])
        if "root" in data:
            root = expanded(data["root"]).absolute()
            data["root"] = str(root)
            if "labels" in data:
                inside = root / data["labels"]
                table = inside if inside.is_file() else expanded(data["labels"]).absolute()
                data["labels"] = str(table.relative_to(root) if table.is_relative_to(root) else table)
        return content | {"data": data}

    def check(self, folder: Path, *, typed_targets: Set[str] | None = None, without: Collection[str] = ()) -> None:
        """Raises CheckpointError unless the config holds values only, of the shape of configs/.

        It holds no interpolations, no other keys than configs/ have, and as `_target_` only what a file in configs/ names at
        that very place. So it can choose among the code that is there, and bring none in.

        Args:
            typed_targets: classes that the person has typed on the command line, and so allowed; None: there is no such place.
            without: sections that are not looked at. Nothing may be built from them.
        """
        used = {key: value for key, value in self.config.items() if key not in without}
        errors = schema.find_errors(self.config, typed_targets or frozenset(), frozenset(without))
        errors = errors or rules.find_errors(schema.leaves(used))
        if errors:
            hint = "; type it to allow it" if typed_targets is not None and "names this here" in errors[0] else ""
            raise CheckpointError(f"{folder / RUN}: {errors[0]}{hint}")

    def check_network(self, folder: Path) -> None:
        """Does what `check` does for what a network is built from, and for nothing else."""
        self.check(folder, without=(schema.sections() | self.config.keys()) - {"model"})

    def resumed(self, cfg: DictConfig, choices: Mapping[str, str | None], overrides: Sequence[str]) -> "RunRecord":
        """Returns the record with another config, which `choices` and `overrides` have made of it. Raises as `new` does."""
        changed = RunRecord.new(cfg, choices, overrides)
        again = {key_of(override) for override in overrides}
        kept = [override for override in self.overrides if key_of(override) not in again]
        return replace(
            self,
            version=changed.version,
            choices={**self.choices, **changed.choices},
            overrides=[override for override in (*kept, *overrides) if key_of(override) != "resume_strict"],
            config=changed.config,
        )

    def write(self, folder: Path) -> None:
        """Writes run.json into a run folder, and copies of the config and the overrides for people; each file whole."""
        assert self.data is not None and self.preprocessing is not None
        (folder / HYDRA).mkdir(exist_ok=True)
        atomic_write(folder / OVERRIDES, COPY + OmegaConf.to_yaml(list(self.overrides)))
        atomic_write(folder / CONFIG, COPY + OmegaConf.to_yaml(self.stored_config))
        content = asdict(self) | {"format": upgrade.FORMAT, "version": _version(), "config": self.stored_config}
        del content["run_id"]
        checked_json.write(folder / RUN, content, self.run_id)  # last: with it, the folder has an identity


def _version() -> str:
    try:
        return metadata.version("vgg-nll")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return ""


def _storable(config: dict[str, Any]) -> dict[str, Any]:
    """Returns a config without what `resume=` says.

    Raises ConfigError for what a record cannot hold: text with `${`, and other types than text, numbers, flags, lists.
    """
    content = config | {"resume": None, "resume_strict": True}
    for key, value in schema.leaves(content).items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str) and "${" in item:
                raise ConfigError(f"{key}={value}: holds ${{, which a run folder cannot keep; give the value itself")
            if not schema.is_scalar(item):
                raise ConfigError(f"{key}={str(value)[:200]}: must be {schema.ALLOWED}")
    return content
