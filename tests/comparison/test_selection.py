"""Comparing over other keys, and at the best value of a key."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vgg_nll.comparison import report, selection
from vgg_nll.comparison.grouping import group_runs
from vgg_nll.comparison.runs import Run, find
from vgg_nll.errors import ConfigError
from vgg_nll.run_folder import checked_json

MakeRun = Callable[..., Path]


def runs_with_lr(folder: Path, make_run: MakeRun) -> list[Run]:
    """argmax is best at 0.1 and all_logit at 0.01 on validation; on test, it is the other way round."""
    validation = {("argmax", "0.1"): 0.9, ("argmax", "0.01"): 0.8, ("all_logit", "0.1"): 0.7, ("all_logit", "0.01"): 0.95}
    for (loss, lr), accuracy in validation.items():
        for seed in (0, 1):
            options = {"overrides": (f"optimizer.lr={lr}",), "leaves": {"optimizer.lr": float(lr)}}
            # the config of each loss is its own
            leaves = options["leaves"] | {"loss._target_": loss}
            values = {"accuracy": 1 - accuracy + 0.01 * seed}
            run = make_run(
                folder / f"{loss}-{lr}-{seed}", loss, seed, overrides=options["overrides"], leaves=leaves, values=values
            )
            rewrite_validation(run, accuracy + 0.02 * seed)
    return find([folder])[0]


def rewrite_validation(run: Path, accuracy: float) -> None:
    content = checked_json.read(run / "metrics.json")
    content["val"] = content["val"] | {"accuracy": accuracy}
    checked_json.write(run / "metrics.json", content, "test")


@pytest.mark.slow
@pytest.mark.parametrize("key", ["lr", "optimizer.lr"])
def test_each_loss_at_its_own_best(tmp_path: Path, make_run: MakeRun, key: str) -> None:
    runs, lines = selection.at_best(runs_with_lr(tmp_path, make_run), key)
    assert [run.folder.name for run in runs] == ["all_logit-0.01-0", "all_logit-0.01-1", "argmax-0.1-0", "argmax-0.1-1"]
    assert [line.partition(";")[0] for line in lines] == [
        "vgg16, all_logit: optimizer.lr=0.01, best of 0.01, 0.1 on validation",
        "vgg16, argmax: optimizer.lr=0.1, best of 0.01, 0.1 on validation",
    ]
    assert all("a wider range may have a better one" in line for line in lines)
    (group,), _ = group_runs(runs)  # one group, although their learning rates differ
    assert {loss: list(by_seed) for loss, by_seed in group.losses.items()} == {"all_logit": [0, 1], "argmax": [0, 1]}
    text = report.make(runs, [], chosen=lines).printed()
    assert "Chosen on the validation images:" in text and "all_logit − argmax" in text


def test_a_tie_goes_to_the_lower_nll(tmp_path: Path, make_run: MakeRun) -> None:
    for lr, nll in (("0.1", 0.3), ("0.2", 0.1), ("0.3", 0.2)):
        make_run(tmp_path / lr, "argmax", leaves={"optimizer.lr": float(lr)}, values={"accuracy": 0.9, "nll_argmax": nll})
    runs, (line,) = selection.at_best(find([tmp_path])[0], "lr")
    assert [run.folder.name for run in runs] == ["0.2"]
    assert line == "vgg16, argmax: optimizer.lr=0.2, best of 0.1, 0.2, 0.3 on validation"  # in the middle: no warning


@pytest.mark.slow
def test_over_a_key(tmp_path: Path, make_run: MakeRun) -> None:
    runs = selection.compare_over(runs_with_lr(tmp_path, make_run), "lr")
    groups, left_out = group_runs(runs)
    assert left_out == []
    assert [(group.model, list(group.losses)) for group in groups] == [
        ("vgg16, all_logit", ["lr=0.01", "lr=0.1"]),
        ("vgg16, argmax", ["lr=0.01", "lr=0.1"]),
    ]
    assert "lr=0.01 − lr=0.1" in report.make(runs, []).printed()


def test_over_a_group_what_was_typed_stays(tmp_path: Path, make_run: MakeRun) -> None:
    """Two optimizers at two learning rates: two groups, and no run is left out."""
    for optimizer in ("adamw", "sgd"):
        for lr in (0.1, 0.01):
            setting = (f"optimizer={optimizer}", f"optimizer.lr={lr}")
            leaves = {"optimizer.lr": lr, "optimizer._target_": optimizer}
            make_run(tmp_path / f"{optimizer}{lr}", "argmax", overrides=setting, leaves=leaves)
    groups, left_out = group_runs(selection.compare_over(find([tmp_path])[0], "optimizer"))
    assert left_out == []
    assert [(group.settings, list(group.losses)) for group in groups] == [
        ("optimizer.lr=0.01", ["optimizer=adamw", "optimizer=sgd"]),
        ("optimizer.lr=0.1", ["optimizer=adamw", "optimizer=sgd"]),
    ]


def test_values_with_fewer_seeds_are_not_chosen(tmp_path: Path, make_run: MakeRun) -> None:
    for lr, seeds, accuracy in ((0.1, 1, 0.99), (0.2, 2, 0.9), (0.3, 2, 0.8)):
        for seed in range(seeds):
            values = {"accuracy": accuracy}
            make_run(tmp_path / f"{lr}-{seed}", "argmax", seed, leaves={"optimizer.lr": lr}, values=values)
    broken = make_run(tmp_path / "x", "argmax", 3, leaves={"optimizer.lr": 0.3}, val={"accuracy": None})
    runs, lines = selection.at_best(find([tmp_path])[0], "lr")
    assert [run.folder.name for run in runs] == ["0.2-0", "0.2-1"]
    first, second = lines
    assert first == f"left out, it has no metrics of the validation images: {broken}"
    assert second.startswith("vgg16, argmax: optimizer.lr=0.2, best of 0.2, 0.3 on validation; it is the first")
    assert second.endswith("; 0.1 left out: fewer seeds than 2")


def test_over_the_model(tmp_path: Path, make_run: MakeRun) -> None:
    for model in ("vgg16", "vgg16_bn"):
        for seed in (0, 1):
            leaves = {"model.batch_norm": model == "vgg16_bn"}
            make_run(tmp_path / f"{model}{seed}", "argmax", seed, leaves=leaves, model=model, overrides=(f"model={model}",))
    (group,), _ = group_runs(selection.compare_over(find([tmp_path])[0], "model"))
    assert (group.model, list(group.losses)) == ("argmax", ["vgg16", "vgg16_bn"])


@pytest.mark.parametrize("key", ["trainer.epochs", "lrr", "optimizer"])
def test_a_key_that_does_not_differ(tmp_path: Path, make_run: MakeRun, key: str) -> None:
    runs = runs_with_lr(tmp_path, make_run)
    with pytest.raises(ConfigError, match=rf"^--by {key}: (does not differ|is equal).*; these do: loss, optimizer\.lr$"):
        selection.compare_over(runs, key)
    if key != "optimizer":
        with pytest.raises(ConfigError, match=rf"^--best {key}: does not differ"):
            selection.at_best(runs, key)


def test_over_the_loss_nothing_changes(tmp_path: Path, make_run: MakeRun) -> None:
    runs = runs_with_lr(tmp_path, make_run)
    assert selection.compare_over(runs, "loss") == runs


def test_over_an_argument_of_the_loss(tmp_path: Path, make_run: MakeRun) -> None:
    """loss.eps differs between runs of one loss, and the report says so; loss._target_ differs between losses alone."""
    for eps in ("0", "0.1"):
        for seed in (0, 1):
            leaves = {"loss.eps": float(eps), "loss._target_": "argmax"}
            make_run(tmp_path / f"{eps}-{seed}", "argmax", seed, overrides=(f"loss.eps={eps}",), leaves=leaves)
    make_run(tmp_path / "other", "all_logit", 0, leaves={"loss.eps": 0.0, "loss._target_": "all_logit"})
    found = find([tmp_path])[0]
    assert "loss.eps of argmax: 0 (2 runs), 0.1 (2 runs)" in report.make(found, []).printed()
    changed = selection.compare_over(found, "loss.eps")
    assert {run.loss for run in changed} == {"eps=0", "eps=0.1"}
    assert {run.model for run in changed if run.seed == 1} == {"vgg16, argmax"}
    with pytest.raises(ConfigError, match=r"--by loss._target_: does not differ between these runs; these do: loss, loss.eps"):
        selection.compare_over(found, "loss._target_")


def test_the_best_value_is_that_of_the_criterion(tmp_path: Path, make_run: MakeRun) -> None:
    """With trainer.best=nll, the lower NLL wins over the better accuracy."""
    for lr, accuracy, nll in (("0.1", 0.9, 0.5), ("0.01", 0.8, 0.4)):
        leaves = {"optimizer.lr": float(lr), "trainer.best": "nll"}
        run = make_run(tmp_path / lr, "argmax", 0, overrides=(f"optimizer.lr={lr}",), leaves=leaves)
        content = checked_json.read(run / "metrics.json")
        content["val"] = content["val"] | {"accuracy": accuracy, "nll_argmax": nll}
        checked_json.write(run / "metrics.json", content, "test")
    kept, _ = selection.at_best(find([tmp_path])[0], "lr")
    assert [run.folder.name for run in kept] == ["0.01"]


@pytest.mark.parametrize(("best", "is_hinted"), [("0.1", True), ("0.2", False), ("0.3", True)])
def test_a_best_value_at_either_end_asks_for_a_wider_range(
    tmp_path: Path, make_run: MakeRun, best: str, is_hinted: bool
) -> None:
    for lr in ("0.1", "0.2", "0.3"):
        make_run(tmp_path / lr, "argmax", leaves={"optimizer.lr": float(lr)}, values={"accuracy": 0.9 if lr == best else 0.8})
    _, (line,) = selection.at_best(find([tmp_path])[0], "lr")
    assert line.startswith(f"vgg16, argmax: optimizer.lr={best}, best of 0.1, 0.2, 0.3 on validation")
    assert ("a wider range may have a better one" in line) == is_hinted
