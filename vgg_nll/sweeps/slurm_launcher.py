"""Jobs of a Slurm cluster, through submitit."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vgg_nll.errors import ConfigError
from vgg_nll.sweeps.local_launcher import JobMain, Share, Started, new_process, run_job
from vgg_nll.sweeps.record import PRIVATE

FAILURE = 1
RESTARTS = 3  # of all ranks, after one has failed


class SlurmLauncher:
    """Submits each job to Slurm. What Slurm itself prints lies in `.sweep/slurm/` of the sweep's folder.

    Args:
        jobs: at most so many in the queue; cluster: "slurm", or submitit's "local" and "debug".
        ranks: processes that train the network of one job together, on one node, with PyTorch's torchrun.

    Raises ConfigError if submitit is not installed, or there is no Slurm.
    """

    def __init__(
        self,
        jobs: int,
        *,
        cluster: str,
        ranks: int,
        partition: str | None,
        timeout_minutes: int,
        gpus: int,
        cpus: int,
        memory_gb: int,
        main: JobMain,
        device: str,
        folder: Path,
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise ConfigError("launcher=slurm: submitit is not installed: pip install submitit") from error
        try:
            self._executor = submitit.AutoExecutor(str(folder / PRIVATE / "slurm/%j"), cluster=cluster)
        except RuntimeError as error:
            raise ConfigError(f"launcher.cluster={cluster}: {error}; launcher=local runs jobs on this machine") from error
        self._executor.update_parameters(
            name=folder.name,
            timeout_min=timeout_minutes,
            gpus_per_node=gpus,
            cpus_per_task=cpus,
            mem_gb=memory_gb,
            **({} if partition is None else {"slurm_partition": partition}),
        )
        self.slots, self._main, self._cluster, self._cpus, self._ranks = jobs, main, cluster, cpus, ranks

    def start(self, arguments: Sequence[str], errors: Path) -> "SlurmJob":
        share = Share({}, self._ranks, max(1, self._cpus // self._ranks), errors.absolute())
        return SlurmJob(self._executor.submit(run_on_node, self._main, list(arguments), share, self._ranks))

    def wait(self, started: Sequence[Started], seconds: float) -> None:
        time.sleep(seconds)

    def describe(self) -> str:
        return f"up to {self.slots} in the queue of {self._cluster}"


class SlurmJob:
    """A job that was submitted."""

    def __init__(self, job: Any) -> None:
        self._job = job

    def exit_code(self) -> int | None:
        if not self._job.done():
            return None
        try:
            return int(self._job.result())
        except Exception:  # submitit has its own for each way to lose a job; the folder says what the run had reached
            return FAILURE

    def stop(self) -> None:
        self._job.cancel()


def run_on_node(main: JobMain, arguments: list[str], share: Share, ranks: int = 1) -> int:
    """Runs a job in a new process of the node, as a local sweep does, or in several; returns its exit code."""
    if ranks > 1:
        return _run_ranks(main, arguments, share, ranks)
    process = new_process(run_job, main, arguments, share)
    process.start()
    process.join()
    return process.exitcode or 0


def _run_ranks(main: JobMain, arguments: list[str], share: Share, ranks: int) -> int:
    """What `torchrun --standalone --nproc-per-node=<ranks> --max-restarts=3` does."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=share.errors.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=RESTARTS,
    )
    try:
        elastic_launch(config, run_job)(main, arguments, share)
    except ChildFailedError:  # the run has said why
        return FAILURE
    return 0
