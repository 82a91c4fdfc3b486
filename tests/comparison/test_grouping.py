"""Which runs are in one group, and what differs between runs."""

from collections.abc import Callable
from pathlib import Path

from vgg_nll.comparison.grouping import Group, config_differences, group_runs, shared_provenance
from vgg_nll.comparison.runs import find

MakeRun = Callable[..., Path]


def seeds_of(groups: list[Group]) -> dict[tuple[str, str], dict[str, list[int]]]:
    """(model, settings) -> loss -> seeds."""
    return {(group.model, group.settings): {loss: list(by_seed) for loss, by_seed in group.losses.items()} for group in groups}


def test_real_runs_are_one_group(real_runs: Path) -> None:
    found = find([real_runs])[0]
    (group,), duplicates = group_runs(found)
    assert {loss: list(by_seed) for loss, by_seed in group.losses.items()} == {"all_logit": [0, 1], "argmax": [0, 1]}
    assert group.losses["argmax"][1].folder == real_runs / "argmax1"
    assert "trainer.epochs=2" in group.settings.split() and "loss=" not in group.settings
    assert duplicates == config_differences(found) == []
    assert len(shared_provenance(found)) == 3


def test_settings_are_those_of_the_config(tmp_path: Path, make_run: MakeRun) -> None:
    """Whether or not they are overrides, and without those that have no effect."""
    make_run(tmp_path / "a", "argmax", 0)
    make_run(tmp_path / "b", "argmax", 1, overrides=("trainer.epochs=2", "name=x", "device=cpu"))
    make_run(tmp_path / "c", "argmax", 2, overrides=("tracking=none",), leaves={"tracking._target_": "None"})
    make_run(tmp_path / "d", "argmax", 0, overrides=("trainer.epochs=9",), leaves={"trainer.epochs": 9})
    make_run(tmp_path / "e", "all_logit", 0, overrides=("trainer.epochs=9.0",), leaves={"trainer.epochs": 9.0})
    make_run(tmp_path / "f", "all_logit", 0, model="vgg16_bn")
    groups, duplicates = group_runs(find([tmp_path])[0])
    assert seeds_of(groups) == {
        ("vgg16", "default"): {"argmax": [0, 1, 2]},
        ("vgg16", "trainer.epochs=9"): {"all_logit": [0], "argmax": [0]},
        ("vgg16_bn", "default"): {"all_logit": [0]},
    }
    assert duplicates == []


def test_changed_defaults_are_other_settings(tmp_path: Path, make_run: MakeRun) -> None:
    """No override distinguishes them."""
    make_run(tmp_path / "a", "argmax", 0)
    make_run(tmp_path / "b", "argmax", 0, leaves={"trainer.epochs": 4, "trainer.new": 1})
    make_run(tmp_path / "c", "argmax", 0, leaves={"trainer.epochs": 4})
    groups, _ = group_runs(find([tmp_path])[0])
    assert [group.settings for group in groups] == [
        "[trainer.epochs=2]",
        "[trainer.epochs=4, trainer.new=1]",
        "[trainer.epochs=4]",
    ]


def test_arguments_make_another_loss(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path / "a", "argmax")
    make_run(tmp_path / "b", "argmax", overrides=("loss.eps=0.1",), leaves={"loss.eps": 0.1})
    make_run(tmp_path / "c", "all_logit")
    (group,), duplicates = group_runs(find([tmp_path])[0])
    assert list(group.losses) == ["all_logit", "argmax", "argmax loss.eps=0.1"]
    assert duplicates == []
    assert config_differences(group.runs) == ["loss.eps of argmax: 0 (1 run), 0.1 (1 run)"]


def test_the_last_duplicate_counts(tmp_path: Path, make_run: MakeRun) -> None:
    first, second = (make_run(tmp_path / name, "argmax") for name in ("a", "a0"))
    (group,), duplicates = group_runs(find([tmp_path])[0])
    assert [run.folder for run in group.runs] == [second]
    assert duplicates == [f"left out, same settings and seed: {first} ({second} counts)"]


def test_machines(tmp_path: Path, make_run: MakeRun) -> None:
    """Two seeds on two machines are one group, with a note; one seed on two machines gives two groups."""
    make_run(tmp_path / "a", "argmax", 0)
    make_run(tmp_path / "b", "argmax", 1, device="H100", precision="bfloat16", versions={"torch": "3", "cuda": "13"}, git="")
    found = find([tmp_path])[0]
    assert seeds_of(group_runs(found)[0]) == {("vgg16", "default"): {"argmax": [0, 1]}}
    assert config_differences(found) == [
        "device: CPU (1 run), H100 (1 run)",
        "git: abc (1 run), absent (1 run)",
        "precision: bfloat16 (1 run), float32 (1 run)",
        "versions.cuda: 13 (1 run), absent (1 run)",
        "versions.torch: 2.14 (1 run), 3 (1 run)",
    ]
    make_run(tmp_path / "c", "argmax", 0, device="H100", precision="bfloat16")
    found = find([tmp_path])[0]
    assert seeds_of(group_runs(found)[0]) == {
        ("vgg16", "[on=CPU, float32]"): {"argmax": [0]},
        ("vgg16", "[on=H100, bfloat16]"): {"argmax": [0, 1]},
    }


def test_config_differences(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path / "a", "argmax", 0, leaves={"device": "auto"})
    make_run(tmp_path / "b", "all_logit", 1, leaves={"data.noise": 0.7})
    make_run(tmp_path / "c", "argmax", 1, model="vgg16_bn", leaves={"long": "x" * 100})
    assert config_differences(find([tmp_path])[0]) == [
        "model: vgg16 (2 runs), vgg16_bn (1 run)",
        f"long: absent (2 runs), {'x' * 60}... (1 run)",
        "data.noise: 0.3 (2 runs), 0.7 (1 run)",
    ]


def test_shared_provenance(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path / "a", "argmax", 0)
    make_run(tmp_path / "b", "argmax", 1, device="H100")
    assert shared_provenance(find([tmp_path])[0]) == ["float32", "torch 2.14"]
