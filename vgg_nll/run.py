"""What a run does, top to bottom."""

import contextlib
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vgg_nll import hardware, records, run_folder, run_summary
from vgg_nll.config import saved
from vgg_nll.errors import ConfigError
from vgg_nll.evaluation import report
from vgg_nll.evaluation.loop import Evaluation
from vgg_nll.evaluation.metrics import Sums
from vgg_nll.evaluation.per_class import balanced_accuracy, per_class
from vgg_nll.evaluation.predictions import write_predictions
from vgg_nll.inference.trained_model import write_network
from vgg_nll.origin import Origin
from vgg_nll.prepare import meet, prepare
from vgg_nll.ranks import leave, lost_peers_as_error
from vgg_nll.training import history
from vgg_nll.training.pruning import Pruned
from vgg_nll.training.signals import BEFORE, Interrupted, Signals
from vgg_nll.training.trainer import Trainer

log = logging.getLogger(__name__)


def train(cfg: DictConfig, folder: Path, choices: Mapping[str, str], overrides: Sequence[str] = ()) -> float:
    """Trains one network as `cfg` says, into `folder`; returns the objective, the best validation accuracy.

    Args:
        choices: what was chosen in each config group ({"loss": "all_logit", ...}), for the report.
        overrides: those of the command line, for the report.

    Raises:
        ConfigError, DataError, CheckpointError: before anything is trained; what was put into a new folder is removed.
        TrainingError: the run cannot continue. The folder keeps the last good checkpoint and says FAILED.
        Interrupted: by a signal; the state is saved, and `resume=` continues.
    """
    run_folder.refuse_links(folder)
    with (
        run_folder.lock_run_folder(folder),
        hardware.kernels(deterministic=cfg.trainer.deterministic is True),
        Signals() as signals,
    ):
        before = set(folder.iterdir())
        if cfg.resume is None and run_folder.holds_run(folder):
            raise ConfigError(f"{folder}: {run_folder.how_to_continue(folder)}")
        try:
            origin = Origin.of(cfg, folder, choices, overrides)
            with lost_peers_as_error():
                ranks = meet(origin.cfg)
                trainer = prepare(ranks.of_first(origin), signals, ranks)
        except Exception as error:
            if signals.stop is not None:  # a library that is interrupted while it loads makes an error of its own of that
                raise Interrupted(signals.stop, BEFORE) from error
            raise
        finally:
            if sys.exception() is not None and cfg.resume is None:
                run_folder.remove_new_files(folder, before)
        signals.defer()
        _begin(trainer, origin)
        try:
            with lost_peers_as_error():
                trainer.fit()
                _finish(trainer, origin)
            saved_all = trainer.saver.close()
        except Pruned as why:
            trainer.logger.end_session(trainer.state.step, is_success=True)
            (folder / run_folder.PRUNED).write_text(f"{why}\n")
            log.info(f"stopped, since finished runs are better: {why}")
            return trainer.state.best_metrics["accuracy"]
        except BaseException as error:
            _mark_failed(trainer, error)
            raise
        finally:
            _close(trainer)
        if saved_all:
            (folder / run_folder.DONE).write_text("")
            if cfg.checkpoint.keep == "best":
                run_folder.keep_best(folder)
        else:
            log.warning(f"warning: not all weights are on the disk; resume={folder} repeats what is missing")
        if signals.stop is not None:  # in a sweep, other jobs would follow
            raise Interrupted(signals.stop, f"the run in {folder} is finished")
    leave()
    return trainer.state.best_metrics["accuracy"]


def join(cfg: DictConfig) -> None:
    """Trains with the process that runs `train`, step by step: does what it does, and writes nothing. Errors are its own."""
    with hardware.kernels(deterministic=cfg.trainer.deterministic is True), Signals() as signals, lost_peers_as_error():
        ranks = meet(OmegaConf.create(saved.plain(cfg)))
        origin = ranks.of_first(None)
        trainer = prepare(origin, signals, ranks)
        signals.defer()
        run_folder.remember_for_restart(origin.folder)
        try:
            trainer.fit()
            _last_evaluation(trainer)
        except Interrupted:  # rank 0 says so
            return
        trainer.end()
    leave()


def _begin(trainer: Trainer, origin: Origin) -> None:
    """Writes what the folder holds from the start on."""
    folder, data = origin.folder, trainer.data
    origin.write(data)
    run_folder.remember_for_restart(folder)
    data.bad_images.write(folder / run_folder.BAD_IMAGES)
    write_network(folder, data.preprocessing, data.class_names, origin.run_id)
    for marker in (run_folder.DONE, run_folder.FAILED, run_folder.PRUNED):
        (folder / marker).unlink(missing_ok=True)


def _close(trainer: Trainer) -> None:
    trainer.logger.close()
    trainer.saver.wait()
    if run_folder.is_whole(trainer.saver.folder):
        trainer.data.bad_images.write(trainer.saver.folder / run_folder.BAD_IMAGES)


def _mark_failed(trainer: Trainer, error: BaseException) -> None:
    """Says in the HParams tab that the run did not finish; in FAILED, too, unless a signal has stopped it."""
    trainer.logger.end_session(trainer.state.step, is_success=False)
    if isinstance(error, Exception):
        with contextlib.suppress(OSError):
            (trainer.saver.folder / run_folder.FAILED).write_text(f"{type(error).__name__}: {error}\n")


def _finish(trainer: Trainer, origin: Origin) -> None:
    """Evaluates the test split; prints the metrics, and writes metrics.json."""
    test, shown = _last_evaluation(trainer)
    state, folder, cfg = trainer.state, trainer.saver.folder, origin.cfg
    tested = {} if test is None else {"test": dict(test.values)}
    splits = {"validation": state.best_metrics} | tested
    split, values = list(splits.items())[-1]
    said = report.verdict(values, trainer.data.sizes["val" if test is None else "test"])
    log.info(f"\nbest of validation: step {state.best_step}\n{report.final_table(splits)}\n\n{split}: {said}\n")
    records.write_json(
        folder / run_folder.METRICS,
        {name: origin.choices.get(name, "") for name in ("data", "model", "loss")}
        | {"overrides": list(origin.overrides), "seed": cfg.seed}
        | tested
        | ({} if test is None else {"reliability": _reliability(test.sums)})
        | {"val": state.best_metrics, "best_step": state.best_step, "validation_losses": history.losses(state.history)}
        | {"balanced_accuracy": balanced_accuracy(shown.sums), "classes": per_class(trainer.data.class_names, shown.sums)}
        | {"seconds": round(state.seconds, 1)}
        | run_summary.provenance_of(trainer)
        | {"config": OmegaConf.to_container(cfg)},
        origin.run_id,
    )
    write_predictions(folder / run_folder.PREDICTIONS, shown.sums.by_image(), trainer.data.class_names)
    trainer.end()
    log.info(f"trained in {state.seconds:.1f} s; run folder {folder}")
    run_summary.log_dashboard(origin)


def _last_evaluation(trainer: Trainer) -> tuple[Evaluation | None, Evaluation]:
    """Evaluates the best network on the test split, if there is one; and on that or, without one, on the validation split."""
    test = trainer.test()
    return test, trainer.evaluator.evaluate("val") if test is None else test


def _reliability(sums: Sums) -> dict[str, Any]:
    """The bins of the test split's reliability diagram, for diagrams of several runs together."""
    bins = {"images": sums.bin_images, "correct": sums.bin_correct, "confidence": sums.bin_confidence}
    return {"split": "test"} | {name: counts.tolist() for name, counts in bins.items()}
