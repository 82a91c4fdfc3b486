"""The command `python train.py`, also installed as `vgg-nll`: Hydra around `run.train`."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from vgg_nll import run_folder
from vgg_nll.cli import arguments, error_messages, help_page, resume, sweep, torchrun
from vgg_nll.config import shape
from vgg_nll.config.compose import CONFIGS, VERSION_BASE, is_override, key_of
from vgg_nll.errors import ConfigError

OTHER_FOLDER = "hydra.run.dir=<folder> takes another run folder"


def main() -> None:
    """Runs one job, or a sweep (`-m`), from `sys.argv`; a run that is resumed gets its own overrides; errors are lines."""
    traceback = error_messages.wants_traceback()
    os.environ[error_messages.FULL_ERROR] = "1"  # Hydra raises its errors instead of printing them in its own way
    logging.raiseExceptions = False  # a closed pipe (| head) would otherwise give pages of errors
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a request to save, before there is a state

    def job(cfg: DictConfig) -> float:
        hydra_job = HydraConfig.get()
        with error_messages.errors_as_lines(OTHER_FOLDER, traceback=traceback):
            from vgg_nll import run  # loaded by `LoadTraining` before

            folder = Path(hydra_job.runtime.output_dir if cfg.resume is None else cfg.resume).absolute()
            return run.train(cfg, folder, hydra_job.runtime.choices, hydra_job.overrides.task)

    with error_messages.errors_as_lines(OTHER_FOLDER, traceback=traceback):
        typed = arguments.prepare(sys.argv[1:])
        if "--help" in typed or "-h" in typed:
            print(help_page.page([item for item in typed if is_override(item) and key_of(item) != "resume"]))
            return
        torchrun.check(typed)
        if arguments.is_sweep(typed):
            if not arguments.prints(typed):
                sweep.main(typed, traceback=traceback)
                return
            own = (*shape.OF_SWEEPS, *arguments.SWEEP)
            typed = [word for word in typed if key_of(word).partition(".")[0] not in own]
        if torchrun.rank() > 0:
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the end; rank 0 says everything
        sys.argv[1:], main_config = resume.prepare(torchrun.continued(typed))
        here = Path.cwd()
        if main_config == resume.FRESH and "${" in str(here):
            raise ConfigError(f"{here}: Hydra takes ${{ in a folder's name for an interpolation; start in another folder")
        if main_config == resume.FRESH:
            arguments.check(sys.argv[1:])
        if torchrun.rank() > 0 and not arguments.prints(typed):
            torchrun.join(sys.argv[1:], main_config)
            return
        with _without_empty_folders():
            hydra.main(config_path=str(CONFIGS), config_name=main_config, **VERSION_BASE)(job)()


class LoadTraining(Callback):
    """Loads PyTorch after Hydra has checked the keys and before it makes a folder: a Ctrl-C in these seconds leaves nothing."""

    new_folders: ClassVar[list[Path]] = []  # that this process makes around a run's, the innermost first

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(OmegaConf.select(config, "hydra.run.dir")).absolute()
        self.new_folders[:] = [folder for folder in (folder, *folder.parents) if not folder.exists()]
        sweep.load_training()


@contextlib.contextmanager
def _without_empty_folders() -> Iterator[None]:
    """Removes the folders that were made for a run that did not begin."""
    try:
        yield
    except BaseException:
        for folder in LoadTraining.new_folders:
            inside = list(folder.glob("*"))
            if {path.name for path in inside} <= {run_folder.LOG}:
                for path in inside:
                    path.unlink()
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
        raise
