"""What a run does, top to bottom."""

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from vgg_nll import hardware
from vgg_nll.distributed import restart
from vgg_nll.distributed.process_group import destroy_process_group, is_first_rank, lost_peers_as_error
from vgg_nll.errors import ConfigError
from vgg_nll.evaluation import report
from vgg_nll.evaluation.best_step import objective
from vgg_nll.evaluation.loop import Evaluation
from vgg_nll.evaluation.metrics import Sums
from vgg_nll.evaluation.outputs import write_outputs
from vgg_nll.evaluation.per_class import per_class
from vgg_nll.evaluation.predictions import write_predictions
from vgg_nll.run import announce, build
from vgg_nll.run.setup import Start, describe, meet, prepare
from vgg_nll.run_folder import checked_json, checksums, paths
from vgg_nll.run_folder.record import RunRecord
from vgg_nll.tracking.summaries import Summary
from vgg_nll.training import history
from vgg_nll.training.pruning import Pruned
from vgg_nll.training.signals import BEFORE, Interrupted, Signals
from vgg_nll.training.trainer import Trainer

log = logging.getLogger(__name__)


def train(record: RunRecord, folder: Path, *, resume: str | None = None, resume_strict: bool = True) -> float:
    """Trains one network as its record says, into `folder`; returns the objective: what `trainer.best` names, of the best
    step, on the validation images.

    If several processes train together, each calls this; the record and the folder are those of rank 0, which alone writes.

    Args:
        resume: the name of the run that is resumed, for messages; None for a new run.
        resume_strict: whether a resumed run ends if its data has changed.

    Raises:
        ConfigError, DataError, CheckpointError: before anything is trained; a new folder is left as it was.
        TrainingError: the run cannot continue. The folder keeps the last good checkpoint and says FAILED.
        Interrupted: by a signal; the state is saved, and `resume=` continues.
    """
    start = Start(record, folder, resume, resume_strict)
    with (
        _claimed(start) if is_first_rank() else nullcontext(),
        hardware.deterministic_algorithms(enabled=build.make_settings(record.cfg).deterministic),
        Signals() as signals,
    ):
        try:
            with lost_peers_as_error():
                ranks = meet(record.cfg)
                start = ranks.broadcast_object(start)
                trainer, shown = prepare(start, signals, ranks)
        except Exception as error:
            if signals.stop is not None:  # a library that is interrupted while it loads makes an error of its own of that
                raise Interrupted(signals.stop, BEFORE) from error
            raise
        signals.defer()
        if ranks.is_first:
            _begin(trainer, start, shown)
        restart.remember_folder(start.folder)
        try:
            with lost_peers_as_error():
                trainer.fit()
                value = _finish(trainer, start)
            saved_all = trainer.saver.close()
        except Pruned as why:
            trainer.logger.end_session(trainer.state.step, is_success=True)
            (start.folder / paths.PRUNED).write_text(f"{why}\n")
            log.info(f"stopped, since finished runs are better: {why}")
            return objective(trainer.state.best_metrics, trainer.settings.best)
        except BaseException as error:
            if isinstance(error, Interrupted) and not ranks.is_first:  # rank 0 says so
                return objective(trainer.state.best_metrics, trainer.settings.best)
            _mark_failed(trainer, error)
            raise
        finally:
            _close(trainer)
        if ranks.is_first:
            _mark_done(start, keep=start.record.cfg.checkpoint.keep, saved_all=saved_all)
        if signals.stop is not None and ranks.is_first:  # in a sweep, other jobs would follow
            raise Interrupted(signals.stop, f"the run in {start.folder} is finished")
    destroy_process_group()
    return value


@contextmanager
def _claimed(start: Start) -> Iterator[None]:
    """Holds the run folder. Raises ConfigError if another process holds it, or if a new run would overwrite another one."""
    paths.refuse_links(start.folder)
    with paths.lock_run_folder(start.folder):
        if start.resume is None and paths.holds_run(start.folder):
            raise ConfigError(f"{start.folder}: {paths.how_to_continue(start.folder)}")
        yield


def _begin(trainer: Trainer, start: Start, shown: Iterable[Summary]) -> None:
    """Writes what the folder holds from the start on; shows TensorBoard what is trained."""
    folder, data = start.folder, trainer.data
    replace(start.record, data=describe(data), preprocessing=data.preprocessing.to_dict()).write(folder)
    data.bad_images.write(folder / paths.BAD_IMAGES)
    for marker in (paths.DONE, paths.FAILED, paths.PRUNED):
        (folder / marker).unlink(missing_ok=True)
    trainer.logger.begin(trainer.state.step + 1, shown)


def _mark_done(start: Start, *, keep: str, saved_all: bool) -> None:
    if not saved_all:
        log.warning(f"warning: not all weights are on the disk; resume={start.folder} repeats what is missing")
        return
    (start.folder / paths.DONE).write_text("")
    paths.remove_states(start.folder, but_last=keep == "all")


def _close(trainer: Trainer) -> None:
    trainer.logger.close()
    trainer.saver.wait()
    if trainer.ranks.is_first and paths.is_whole(trainer.saver.folder):
        trainer.data.bad_images.write(trainer.saver.folder / paths.BAD_IMAGES)


def _mark_failed(trainer: Trainer, error: BaseException) -> None:
    """Says in the HParams tab that the run did not finish; in FAILED, too, unless a signal has stopped it."""
    trainer.logger.end_session(trainer.state.step, is_success=False)
    if isinstance(error, Exception) and trainer.ranks.is_first:
        with contextlib.suppress(OSError):
            (trainer.saver.folder / paths.FAILED).write_text(f"{type(error).__name__}: {error}\n")


def _finish(trainer: Trainer, start: Start) -> float:
    """Evaluates the best network; prints the metrics, and writes metrics.json. Returns the objective."""
    found = trainer.evaluate_best()
    if trainer.ranks.is_first:
        _report(trainer, start, found)
        log.info(f"trained in {trainer.state.seconds:.1f} s; run folder {start.folder}")
        announce.log_dashboard(start.record, start.folder)
    return objective(found["val"].values, trainer.settings.best)


def _report(trainer: Trainer, start: Start, found: Mapping[str, Evaluation]) -> None:
    """Prints and writes what the best network gives on each split: "val", and "test" if there is one."""
    state, folder = trainer.state, start.folder
    shown = list(found.values())[-1]
    splits = {"validation" if name == "val" else name: evaluation.values for name, evaluation in found.items()}
    split, values = list(splits.items())[-1]
    images = {"validation": trainer.data.sizes["val"], **trainer.data.sizes}
    classes = len(trainer.data.class_names)
    table = report.final_table(splits, images, num_classes=classes, intervals=shown.intervals)
    head = f"{split} (softmax of the logits)" if start.record.choices.get("loss") == "sigmoid" else split
    judged = "\n  ".join(report.verdict(values, images[split], shown.intervals))
    log.info(f"\nbest of validation: step {state.best_step}\n{table}\n{report.few_images(images[split])}\n{head}: {judged}\n")
    _write_tables(trainer, start, found)
    checked_json.write(
        folder / paths.METRICS,
        {name: evaluation.figures() for name, evaluation in found.items()}
        | ({"reliability": _reliability(found["test"].sums)} if "test" in found else {})
        | {"best_step": state.best_step, "validation_losses": history.losses(state.history)}
        | {"classes": per_class(trainer.data.class_names, shown.sums)}
        | {"seconds": round(state.seconds, 1)}
        | announce.provenance_of(trainer)
        | {checksums.STEP: state.step, checksums.CHECKSUMS: checksums.of_tables(folder)},
        start.record.run_id,
    )


def _write_tables(trainer: Trainer, start: Start, found: Mapping[str, Evaluation]) -> None:
    """Writes metrics.csv, predictions.csv and outputs.npz."""
    folder, data, (name, shown) = start.folder, trainer.data, list(found.items())[-1]
    write_predictions(folder / paths.PREDICTIONS, shown.sums.by_image(), data.class_names, data.image_paths(name))
    if trainer.state.history:
        history.write(folder / paths.METRICS_TABLE, trainer.state.history)
    outputs = {split: evaluation.outputs(data.image_paths(split)) for split, evaluation in found.items()}
    kept = {split: part for split, part in outputs.items() if part is not None}
    try:
        write_outputs(folder / paths.OUTPUTS, kept, data.class_names, start.record.run_id)
    except OSError as error:  # not worth a run
        log.warning(f"warning: {paths.OUTPUTS} was not written: {error}")


def _reliability(sums: Sums) -> dict[str, Any]:
    """The bins of the test split's reliability diagram, for diagrams of several runs together."""
    bins = {"images": sums.bin_images, "correct": sums.bin_correct, "confidence": sums.bin_confidence}
    return {"split": "test"} | {name: counts.tolist() for name, counts in bins.items()}
