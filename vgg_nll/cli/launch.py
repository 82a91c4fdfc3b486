"""The command `python train.py`, also installed as `vgg-nll`: Hydra around `run.train.train`."""

import contextlib
import copy
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from vgg_nll.cli import arguments, console, error_messages, help_page, resume, sweep, torchrun
from vgg_nll.cli.load import load_training
from vgg_nll.config import schema
from vgg_nll.config.compose import CONFIGS, VERSION_BASE, is_override, key_of
from vgg_nll.run_folder import paths
from vgg_nll.run_folder.record import RunRecord

OTHER_FOLDER = "hydra.run.dir=<folder> takes another run folder"
OTHER_SWEEP = f"{sweep.DIRECTORY}=<folder> takes another folder"


def main(disk_hint: str = "") -> None:
    """Runs one job, or a sweep (`-m`), from `sys.argv`; errors are lines.

    Args:
        disk_hint: what to do if the disk refuses; "": what goes with the arguments.
    """
    console.write_any_text()
    hint = disk_hint or _disk_hint(sys.argv[1:])
    traceback = error_messages.wants_traceback()
    os.environ[error_messages.FULL_ERROR] = "1"  # Hydra raises its errors instead of printing them in its own way
    logging.raiseExceptions = False  # a closed pipe (| head) would otherwise give pages of errors
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a request to save, before there is a state

    def job(cfg: DictConfig) -> float:
        with error_messages.errors_as_lines(hint, traceback=traceback):
            from vgg_nll.run.train import train  # loaded by `StartRun`

            hydra_job = HydraConfig.get()
            # Once more: another callback may have changed the config after `StartRun`.
            record = _record(cfg, hydra_job.runtime.choices, hydra_job.overrides.task)
            folder = Path(hydra_job.runtime.output_dir if cfg.resume is None else cfg.resume).absolute()
            return train(record, folder, resume=cfg.resume, resume_strict=cfg.resume_strict)

    with error_messages.errors_as_lines(hint, traceback=traceback):
        typed = arguments.prepare(sys.argv[1:])
        if "--help" in typed or "-h" in typed:
            print(help_page.page([item for item in typed if is_override(item) and key_of(item) != "resume"]))
            return
        torchrun.check(typed)
        if arguments.is_sweep(typed):
            if not arguments.prints(typed):
                sweep.main(typed, run_one, traceback=traceback)
                return
            own = (*schema.OF_SWEEPS, *arguments.SWEEP)
            typed = [word for word in typed if key_of(word).partition(".")[0] not in own]
        typed = torchrun.of_rank(torchrun.continued(typed))
        sys.argv[1:], config, StartRun.resumed = resume.prepare(typed)
        with _without_leftovers():
            hydra.main(config_path=str(CONFIGS), config_name=config, **VERSION_BASE)(job)()


def run_one(line: list[str], *, traceback: bool) -> None:
    """What a job of a sweep does: `python train.py <line>`, in this process."""
    os.environ[error_messages.FULL_ERROR] = "1" if traceback else "0"
    sys.argv[1:] = line
    main(OTHER_SWEEP)


def _disk_hint(typed: Sequence[str]) -> str:
    """Returns what to do if the disk refuses; a run that continues stays in its folder."""
    if arguments.is_sweep(typed):
        return OTHER_SWEEP
    return "" if arguments.path_of("resume", typed) else OTHER_FOLDER


def _record(cfg: DictConfig, choices: Mapping[str, str | None], overrides: Sequence[str]) -> RunRecord:
    """Returns the record of the run that begins. Raises ConfigError with one line for every error of the config."""
    before = StartRun.resumed
    return RunRecord.new(cfg, choices, overrides) if before is None else before.resumed(cfg, choices, overrides)


class StartRun(Callback):
    """Checks the config, and loads PyTorch: when Hydra has composed, and before it makes a folder.

    Bad input, or a Ctrl-C in the seconds of loading, leaves nothing behind. Hydra makes this object from its own config, so
    what it is given, and gives, stands on the class.
    """

    resumed: ClassVar[RunRecord | None] = None  # of the run that `resume=` names
    error: ClassVar[Exception | None] = None
    new: ClassVar[list[Path]] = []  # the logs and the folders that Hydra makes after this, the innermost first
    folder: ClassVar[Path] = Path()  # of the new run

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            self._check(config)
        except Exception as error:
            StartRun.error = error
            sys.exit(1)  # not the error itself: of that, Hydra makes a warning, and goes on
        load_training()

    def _check(self, config: DictConfig) -> None:
        cfg = copy.deepcopy(config)
        with open_dict(cfg):
            del cfg["hydra"]
        record = _record(cfg, config.hydra.runtime.choices, config.hydra.overrides.task)
        if StartRun.resumed is not None:
            resume.check(StartRun.resumed, record, cfg)
            return
        arguments.check_paths(cfg)
        if torchrun.rank() == 0:  # the others have no folder
            folder = Path(OmegaConf.select(config, "hydra.run.dir"))
            resume.check_new(folder)
            made = (*_logs(config, folder.absolute()), folder.absolute(), *folder.absolute().parents)
            self.new[:] = [path for path in made if not path.exists()]
            StartRun.folder = folder.absolute()


def _logs(config: DictConfig, folder: Path) -> list[Path]:
    """Returns the files that the handlers of `hydra.job_logging` open, in a run with this folder."""
    cfg = copy.deepcopy(config)
    OmegaConf.set_readonly(cfg.hydra, False)
    with open_dict(cfg.hydra.runtime):
        cfg.hydra.runtime.output_dir = str(folder)
    handlers = OmegaConf.select(cfg, "hydra.job_logging.handlers") or {}
    names = [OmegaConf.select(cfg, f"hydra.job_logging.handlers.{handler}.filename") for handler in handlers]
    return [Path(str(name)).absolute() for name in names if name is not None]


@contextlib.contextmanager
def _without_leftovers() -> Iterator[None]:
    """Removes what Hydra has made for a run that did not begin; raises the error that `StartRun` met."""
    StartRun.error = None
    StartRun.new.clear()
    try:
        yield
    except BaseException as end:
        for path in StartRun.new:
            if path.is_dir():
                with contextlib.suppress(OSError):  # not empty
                    path.rmdir()
            elif not any((StartRun.folder / name).exists() for name in (paths.RUN, paths.LOCK)):  # of another process
                path.unlink(missing_ok=True)
        if StartRun.error is not None:
            raise StartRun.error from end
        raise
