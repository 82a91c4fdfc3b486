"""Processes beside that of the sweep, which itself never loads PyTorch."""

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from typing import Any

# Loaded once, by the process that the others are forked from, which saves each of them two to four seconds: what a run needs,
# what means need, and the library that has the digits.
PRELOADED = [
    *("vgg_nll.cli.launch", "vgg_nll.run", "vgg_nll.data.memory.data_set", "vgg_nll.data.memory.sources", "sklearn.datasets"),
    *("vgg_nll.tracking.event_files", "vgg_nll.comparison.statistics"),
]


def new_process(function: Callable[..., object], *arguments: Any, afresh: bool = False) -> BaseProcess:
    """Returns a process that will call the function.

    Args:
        afresh: it loads everything itself.
    """
    if afresh or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    # A Ctrl-C while PyTorch is loaded is for this process; the other one ends with it, and says nothing.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    forkserver.ensure_running()
    signal.signal(signal.SIGINT, before)
    return context.Process(target=function, args=arguments)
