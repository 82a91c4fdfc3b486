"""Trains VGG-16: `python train.py loss=all_logit`. `python train.py --help` lists what can be set."""

import signal

if __name__ == "__main__":  # in the seconds that the imports take, Ctrl-C just ends it, and a wish to save is too early
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from vgg_nll.cli import launch
from vgg_nll.config.compose import CONFIGS


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")
def main(cfg: DictConfig) -> float:
    """One run, or one job of a sweep; the validation accuracy is what a sweeper maximises."""
    job = HydraConfig.get()
    with launch.errors_of_a_job() if job.mode is RunMode.MULTIRUN else launch.errors_as_lines(launch.OTHER_FOLDER):
        from vgg_nll import run  # not above: it takes seconds to load

        return run.train(cfg, Path(job.runtime.output_dir), job.runtime.choices, job.overrides.task)


if __name__ == "__main__":
    launch.call(main)
