"""The speed of reading and augmenting images."""

import argparse
import functools
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from vgg_nll import hardware
from vgg_nll.benchmarks.timing import interleaved
from vgg_nll.data.memory import sources
from vgg_nll.data.memory.data_set import InMemoryData
from vgg_nll.data.pictures.data_set import FolderData
from vgg_nll.data.pictures.decoding import jpeg_decoder
from vgg_nll.data.pictures.listing import list_pictures
from vgg_nll.data.pictures.profiles import PRIMARIES, SRGB_CURVE, rgb_profile

QUALITY = 90
CLASSES = ("a", "b")
BATCH = 32
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HALF = [0.5, 0.5, 0.5]


def data(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures training images/s of each source: JPEGs (500x400, as in ImageNet) cropped to 224, against the usual PIL pipeline
    (crop, flip, to floats, normalise) in as many processes; and data sets of 32x32 in memory, each augmentation by itself.
    """
    hardware.keep_freed_memory()  # as a run does; for the usual pipeline, too
    device = hardware.choose_device(args.device)
    decoder = "PIL" if jpeg_decoder() is None else "torchcodec"
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        _write_pictures(Path(folder), args.pictures, args.size, args.profile)
        rows = []
        for processes in sorted({0, args.processes}):
            torch.set_num_threads(1 if processes == 0 else threads)  # without workers: what one core can do
            epochs = {
                "JPEG, PIL and floats": _epoch(functools.partial(iter, _usual(folder, processes))),
                f"JPEG, this project ({decoder})": _epoch(functools.partial(_ours(folder, processes, device).train_batches, 0)),
            }
            rows += _rows(epochs, args, processes, device, dict.fromkeys(epochs, args.pictures // BATCH * BATCH))
    torch.set_num_threads(1)
    resident = {
        "digits, shift": InMemoryData(sources.digits(), shift_pixels=1, **_common(device, HALF, HALF)),
        "32x32, nothing": _square(device),
        "32x32, shift and flip": _square(device, shift_pixels=4, horizontal_flip=True),
        "32x32, shift, flip and cutout": _square(device, shift_pixels=4, horizontal_flip=True, cutout_pixels=8),
    }
    epochs = {name: _epoch(functools.partial(its.train_batches, 0)) for name, its in resident.items()}
    rows += _rows(epochs, args, 0, device, {name: its.steps_per_epoch * BATCH for name, its in resident.items()})
    torch.set_num_threads(threads)
    return rows


def _rows(
    epochs: dict[str, Callable[[], None]],
    args: argparse.Namespace,
    processes: int,
    device: torch.device,
    images: dict[str, int],
) -> list[dict[str, Any]]:
    times = interleaved(epochs, args.repeats, "epochs", device)
    first = next(iter(times))
    first_speed = images[first] / statistics.median(times[first])
    return [
        {"images": name, "processes": processes or "this one", "n": len(seconds)}
        | {"min images/s": round(images[name] / max(seconds)), "median": round(images[name] / statistics.median(seconds))}
        | {
            "max": round(images[name] / min(seconds)),
            "x the first": round(images[name] / statistics.median(seconds) / first_speed, 2),
        }
        for name, seconds in times.items()
    ]


def _common(device: torch.device, mean: list[float], std: list[float]) -> dict[str, Any]:
    return {"mean": mean, "std": std, "batch_size": BATCH, "eval_batch_size": BATCH, "seed": 0, "device": device}


def _ours(folder: str, processes: int, device: torch.device) -> FolderData:
    crop: dict[str, Any] = {"image_size": 224, "min_crop": 0.35, "horizontal_flip": True}
    return FolderData(list_pictures(root=folder), num_workers=processes, **crop, **_common(device, MEAN, STD))


def _square(device: torch.device, **augmentation: Any) -> InMemoryData:
    return InMemoryData(sources.synthetic(num_images=2000), **augmentation, **_common(device, HALF, HALF))


def _epoch(batches: Callable[[], Iterator[Any]]) -> Callable[[], None]:
    def call() -> None:
        for _ in batches():
            pass

    return call


def _usual(folder: str, processes: int) -> DataLoader[Any]:
    crop = [v2.RandomResizedCrop(224, scale=(0.35, 1.0)), v2.RandomHorizontalFlip()]
    floats = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    pictures = ImageFolder(f"{folder}/train", v2.Compose([*crop, *floats]))
    return DataLoader(pictures, batch_size=BATCH, shuffle=True, num_workers=processes, drop_last=True)


def _write_pictures(folder: Path, number: int, size: tuple[int, int], profile: str) -> None:
    """Smooth colours under noise: of 500x400 some 80 kB each."""
    draw = np.random.default_rng(0)
    icc = rgb_profile(PRIMARIES[12], SRGB_CURVE) if profile == "display_p3" else None
    for split, count in (("train", number), ("val", 2)):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
        for i in range(count):
            colours = Image.fromarray(draw.integers(0, 256, (13, 16, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
            noisy = np.asarray(colours) + draw.normal(0, 12, (size[1], size[0], 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(
                folder / split / CLASSES[i % 2] / f"{i}.jpg", quality=QUALITY, icc_profile=icc
            )
