"""The profiler of `trainer.profile=true`: how long each operator of a step takes."""

import logging
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from vgg_nll.run_folder import paths

log = logging.getLogger(__name__)
FIRST, WARM_UP, STEPS = 5, 3, 10  # the first steps allocate memory and choose kernels; the next ones start the profiler
ROWS = 30


class NoProfiler(AbstractContextManager[None]):
    """Is told of every step inside its block, as PyTorch's profiler, and records nothing."""

    def __exit__(self, *error: object) -> None:
        pass

    def step(self) -> None:
        """Ends one step."""


Profiler = NoProfiler | torch.profiler.profile


def make_profiler(is_wanted: bool, folder: Path, device: torch.device) -> Profiler:
    """Returns a profiler of steps 9 to 18 of a process, which writes a trace and a table into the run folder; or none."""
    if not is_wanted:
        return NoProfiler()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)

    def write(profile: torch.profiler.profile) -> None:
        trace, operators = folder / paths.PROFILE_TRACE, folder / paths.PROFILE_OPERATORS
        trace.parent.mkdir(exist_ok=True)
        profile.export_chrome_trace(str(trace))
        order = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
        operators.write_text(profile.key_averages().table(sort_by=order, row_limit=ROWS))
        log.info(f"profile: {operators}, the operators that take longest; {trace.name} opens in ui.perfetto.dev")

    schedule = torch.profiler.schedule(skip_first=FIRST, wait=0, warmup=WARM_UP, active=STEPS, repeat=1)
    return torch.profiler.profile(activities=activities, schedule=schedule, on_trace_ready=write)
