"""Trains VGG-16: `python train.py loss=all_logit`. `python train.py --help` lists what can be set."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vgg_nll import command, run


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
def main(cfg: DictConfig) -> float:
    """One run, or one job of a sweep; the validation accuracy is what a sweeper maximises."""
    runtime = HydraConfig.get().runtime
    return run.train(cfg, Path(runtime.output_dir), runtime.choices)


if __name__ == "__main__":
    command.call(main)
