"""Makes the stored runs of this version: `python tests/releases/make.py`, once for each release. They are never made again."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
SMALL = ("loss=all_logit", "model.width=0.03125", "device=cpu", "trainer.precision=float32", "trainer.steps=4")
RUNS = {
    "digits": ("trainer.batch_size=64", "trainer.log_every_steps=2"),
    "pictures": ("data=image_folder", "data.root=pictures", "data.image_size=32", "trainer.batch_size=4", "data.num_workers=0"),
}
LEFT = ("0*", "projector_config.pbtxt", "train.log")  # the points of the projector, and the log: no command reads them


def main() -> None:
    from helpers.pictures import write_folder

    from vgg_nll.run_folder.record import RunRecord

    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_folder(work / "pictures")
        for run, options in RUNS.items():
            line = [sys.executable, str(ROOT / "train.py"), *SMALL, *options, f"hydra.run.dir=runs/{run}"]
            subprocess.run(line, cwd=work, check=True)
            folder = Path(__file__).parent / RunRecord.open(work / "runs" / run).version / run
            if folder.exists():
                sys.exit(f"{folder} is there already: what a version wrote stays as it is")
            shutil.copytree(work / "runs" / run, folder, ignore=shutil.ignore_patterns(*LEFT))


if __name__ == "__main__":
    main()
