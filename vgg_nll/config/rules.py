"""One check of a whole config, which lists every error at once."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vgg_nll.config import schema
from vgg_nll.config.rule import Rule
from vgg_nll.errors import ConfigError

DEVICES = r"auto|cpu|cuda(:(0|[1-9][0-9]?))?"
MPS = "mps", "Apple's GPUs have no float64, in which every metric is computed"
FLOAT16 = "float16", "its small gradients become 0 unless the loss is scaled; a GPU without bfloat16 trains in float32"
COUNT = Rule(int, min_value=1)
SHARE = Rule(float, above=0, below=1)
FLAG = Rule(bool)
TEXT = Rule(str)
NOT_NEGATIVE = Rule(float, min_value=0)
EPOCHS = Rule(float, above=0, max_value=1e9)  # the product with the steps of an epoch is an integer

# Keys whose values can be judged without the rest. A key that is not here is judged by the constructor that takes it. A
# constructor that is also called without a config judges, too, by the same bounds: tests/config/test_bounds.py compares them.
RULES: dict[str, Rule] = {
    "seed": Rule(int, min_value=0),
    "name": TEXT,
    "device": Rule(str, choices=("auto", "cpu", "cuda", "cuda:<number>"), pattern=DEVICES, refused=(MPS,)),
    "resume": Rule(str, optional=True, is_path=True),
    "resume_strict": FLAG,
    "checkpoint.every_steps": COUNT,
    "checkpoint.keep": Rule(str, choices=("all", "best")),
    "model.batch_norm": FLAG,
    "model.head": Rule(str, choices=("auto", "paper", "compact")),
    "model.dropout": Rule(float, min_value=0, below=1),
    "model.width": Rule(float, above=0, max_value=8),
    "model.weights": Rule(str, optional=True, is_path=True),
    "model.freeze": TEXT,
    "model.keep_last_layer": FLAG,
    "loss.select": Rule(str, choices=("label", "prediction")),
    "loss.class_reduction": Rule(str, choices=("sum", "mean")),
    "loss.eps": Rule(float, min_value=0, below=1),
    "loss.reduction": Rule(str, choices=("mean",)),  # the steps, the sums and the learning rates count on it
    "loss.weight": Rule(float, min_value=0, max_value=1e9, items=0, optional=True, word="auto", is_named=True),
    "loss.label_smoothing": Rule(float, min_value=0, max_value=1),
    "data.root": Rule(str, is_path=True),
    "data.labels": Rule(str, is_path=True),
    "data.download": FLAG,
    "data.follow_links": FLAG,
    "data.nested": FLAG,
    "data.on_error": Rule(str, choices=("skip", "raise")),
    "data.max_bad_fraction": Rule(float, min_value=0, below=1),
    "data.white": Rule(int, min_value=1, max_value=(1 << 32) - 1, optional=True),
    "data.max_megapixels": Rule(float, above=0),
    "data.image_size": Rule(int, min_value=32, max_value=8192),
    "data.num_classes": Rule(int, min_value=2),
    "data.num_images": COUNT,
    "data.noise": NOT_NEGATIVE,
    "data.val_fraction": SHARE,
    "data.test_fraction": Rule(float, min_value=0, below=1),
    "data.split_seed": Rule(int, min_value=0),
    "data.balanced": FLAG,
    "data.train_images": Rule(int, min_value=1, optional=True),
    "data.mean": Rule(float, min_value=-1e6, max_value=1e6, items=3, word="auto"),  # float32 holds the normalised pixels
    "data.std": Rule(float, min_value=1e-6, items=3, word="auto"),
    "data.folds": Rule(int, min_value=2, optional=True),
    "data.fold": Rule(int, min_value=0),
    "data.shift_pixels": Rule(int, min_value=0),
    "data.cutout_pixels": Rule(int, min_value=0),
    "data.horizontal_flip": FLAG,
    "data.fit": Rule(str, choices=("crop", "pad", "squash")),
    "data.min_crop": Rule(float, above=0, max_value=1),
    "data.num_workers": Rule(int, min_value=0),
    "augment.flip_crop": FLAG,
    "augment.trivial": FLAG,
    "augment.erasing": Rule(float, min_value=0, max_value=1),
    "augment.mixup": NOT_NEGATIVE,
    "augment.cutmix": NOT_NEGATIVE,
    "optimizer.lr": Rule(float, above=0),
    "optimizer.backbone_lr_scale": Rule(float, above=0, max_value=1000),
    "optimizer.betas": Rule(float, min_value=0, below=1, items=2),
    "optimizer.weight_decay": replace(NOT_NEGATIVE, max_value=1e9),  # float32 holds its product with the weights
    "optimizer.momentum": Rule(float, min_value=0, below=1),
    "optimizer.nesterov": FLAG,
    "schedule.warmup_epochs": replace(EPOCHS, min_value=0, above=-math.inf),
    "schedule.decay.final_factor": Rule(float, min_value=0, max_value=1),
    "schedule.decay.milestones": Rule(float, above=0, below=1, items=0),
    "schedule.decay.factor": Rule(float, above=0, max_value=1),
    "trainer.epochs": EPOCHS,
    "trainer.steps": Rule(int, min_value=1, optional=True),
    "trainer.batch_size": COUNT,
    "trainer.eval_batch_size": COUNT,
    "trainer.accumulation_steps": COUNT,
    "trainer.clip_norm": Rule(float, min_value=1e-6, optional=True),
    "trainer.ema_decay": Rule(float, min_value=0, below=1),
    "trainer.precision": Rule(str, choices=("auto", "float32", "bfloat16"), refused=(FLOAT16,)),
    "trainer.best": Rule(str, choices=("accuracy", "balanced_accuracy", "nll", "refinement")),
    "trainer.test_precision": Rule(str, choices=("float32", "same")),
    "trainer.deterministic": FLAG,
    "trainer.compile": FLAG,
    "trainer.log_every_steps": COUNT,
    "trainer.validate_every_epochs": EPOCHS,
    "trainer.figures_every_epochs": EPOCHS,
    "trainer.early_stop_validations": Rule(int, min_value=1, optional=True),
    "trainer.sync_batchnorm": FLAG,
    "trainer.gradient_compression": Rule(str, choices=("none", "bfloat16", "powersgd")),
    "trainer.bucket_mb": Rule(float, above=0, max_value=10_000),
    "trainer.profile": FLAG,
    "trainer.prune_against": Rule(str, optional=True, is_path=True),
    "sweep.name": replace(TEXT, optional=True),
    "sweep.prune": Rule(str, choices=("median", "null"), optional=True),
    "sweep.fail_fast": FLAG,
    "launcher.jobs": replace(COUNT, word="auto"),
    "launcher.cluster": Rule(str, choices=("slurm", "local", "debug")),
    "launcher.ranks": COUNT,
    "launcher.partition": replace(TEXT, optional=True),
    "launcher.timeout_minutes": COUNT,
    "launcher.gpus": Rule(int, min_value=0),
    "launcher.cpus": COUNT,
    "launcher.memory_gb": COUNT,
    "search.trials": COUNT,
    "search.sampler_seed": Rule(int, min_value=0),
    "search.space": Rule(str, items=0),
}
OF_CLASSES = " with a folder of pictures for each class"
PATHS = tuple(key for key, rule in RULES.items() if rule.is_path)


def find_errors(values: Mapping[str, Any]) -> list[str]:
    """Returns one line per error of a flat config {"trainer.batch_size": 32, ...}; an empty list if there is none."""
    found = []
    for key, value in values.items():
        problem = RULES[key].find_error(value) if key in RULES else None
        if problem is not None:
            shown = "null" if value is None else value
            found.append(f"{key}={shown}: {problem}")
    batch, parts = values.get("trainer.batch_size"), values.get("trainer.accumulation_steps")
    if isinstance(batch, int) and isinstance(parts, int) and 1 <= batch < parts:
        found.append(f"trainer.accumulation_steps={parts}: must not be more than trainer.batch_size={batch}")
    size = values.get("data.image_size")
    for key in ("data.shift_pixels", "data.cutout_pixels"):
        if isinstance(size, int) and isinstance(values.get(key), int) and values[key] >= size:
            found.append(f"{key}={values[key]}: must be less than data.image_size={size}")
    fold, folds = values.get("data.fold"), values.get("data.folds")
    if isinstance(fold, int) and fold >= (folds if isinstance(folds, int) else 1):
        why = f"must be less than data.folds={folds}" if folds else "needs data.folds=<number of folds>"
        found.append(f"data.fold={fold}: {why}")
    warmup, epochs = values.get("schedule.warmup_epochs"), values.get("trainer.epochs")
    numbers = isinstance(warmup, (int, float)) and isinstance(epochs, (int, float))
    if numbers and values.get("trainer.steps") is None and float(warmup or 0) > float(epochs or 0):
        found.append(f"schedule.warmup_epochs={warmup}: must not be more than trainer.epochs={epochs}")
    shares = [values.get(f"data.{name}") for name in ("val_fraction", "test_fraction")]
    if all(isinstance(share, float) for share in shares) and sum(share or 0 for share in shares) >= 1:
        found.append("data.val_fraction and data.test_fraction: must leave something to train on (sum less than 1)")
    return found


def check(cfg: DictConfig) -> dict[str, Any]:
    """Returns a config as plain data, with interpolations replaced. Raises ConfigError with one line for every error of it."""
    content: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    found = [f"{key}=???: is required{_to_type(key, content)}" for key in sorted(OmegaConf.missing_keys(cfg))]
    found += schema.find_errors(content, None)
    found += find_errors({key: value for key, value in schema.leaves(content).items() if value != "???"})
    if found:
        raise ConfigError("\n".join(found))
    return content


def _to_type(key: str, content: Mapping[str, Any]) -> str:
    """Returns what to type for a value that is missing; "" if it is plain."""
    if key == "data.labels":
        return f": {key}=<table with the columns path,label>"
    if key == "data.root":
        return f": {key}=<folder{' that the paths of the table begin in' if 'labels' in content['data'] else OF_CLASSES}>"
    return ""
