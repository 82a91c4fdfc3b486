"""Evaluation during training: of the network as it is, by all ranks together, until a signal to stop."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from vgg_nll.data.interface import TRAIN_EVAL, Batch, ImageData, number_of_images
from vgg_nll.distributed.process_group import Ranks
from vgg_nll.evaluation import loop
from vgg_nll.evaluation.loop import Evaluation, OnBatch
from vgg_nll.losses import Loss
from vgg_nll.progress import track
from vgg_nll.training.diagnostics import out_of_memory_as_error
from vgg_nll.training.state import TrainState


@dataclass(frozen=True)
class Evaluator:
    """Evaluates the network of a state on the splits of its data.

    Args:
        batch_size: images at once; dtype: torch.bfloat16 for autocast, torch.float32 for none.
        stop_if_requested: raises Interrupted in all ranks given, if one of them was asked to stop.
    """

    state: TrainState
    data: ImageData
    loss: Loss
    dtype: torch.dtype
    batch_size: int
    ranks: Ranks
    stop_if_requested: Callable[[Ranks], None]

    def evaluate(self, split: str, *, keep_logits: bool = False, on_batch: OnBatch | None = None) -> Evaluation:
        """Evaluates every image of a split. Raises Interrupted between two batches after a signal to stop.

        Args:
            keep_logits, on_batch: as `loop.evaluate`.
        """
        state, side = self.state, self.data.preprocessing.image_size
        self.ranks.broadcast_module(state.evaluated, buffers_only=True)
        with out_of_memory_as_error(state.step, side, "trainer.eval_batch_size", self.batch_size, "lower it"):
            evaluation = loop.evaluate(
                state.evaluated,
                self.loss,
                self.batches(split),
                self.dtype,
                self.ranks,
                keep_logits=keep_logits,
                on_batch=on_batch,
            )
        for rows in self.ranks.gather(list(self.data.bad_images.rows.values())):
            self.data.bad_images.add(rows)
        return evaluation

    def batches(self, split: str) -> Iterator[Batch]:
        """Yields this rank's batches of a split. All ranks go as many rounds, so that they stop in the same one."""
        ranks = self.ranks
        rounds = math.ceil(number_of_images(self.data, split) / self.batch_size / ranks.size)
        batches = self.data.eval_batches(split, ranks.rank, ranks.size)
        for _ in track(range(rounds), rounds, "training images" if split == TRAIN_EVAL else split):
            self.stop_if_requested(ranks)
            yield from itertools.islice(batches, 1)
