"""Signals to a running process: stop (SIGTERM, SIGINT, SIGHUP), or save a checkpoint and continue (SIGUSR1)."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

# Windows has the first two.
HANDLED_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]
BEFORE = "before the first step"


class Interrupted(BaseException):
    """Ends a process that was asked to stop. Not an Exception, so nothing that catches errors catches it.

    `exit_code` is 128 + signal, as in a shell.
    """

    def __init__(self, number: signal.Signals, message: str) -> None:
        super().__init__(f"stopped by {number.name}: {message}")
        self.exit_code = 128 + number


class Signals:
    """Records a signal to stop in `stop`, for the loop to check; until `defer`, it also raises Interrupted.

    A second SIGINT then ends the process at once; files are replaced whole, so none is left half-written. Outside the main
    thread Python takes no signals, and nothing is recorded.
    """

    def __init__(self) -> None:
        self.stop: signal.Signals | None = None
        self._save_requested = self._deferred = False
        self._before: dict[signal.Signals, Any] = {}
        self._process = os.getpid()
        self._interrupts = 0

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in HANDLED_SIGNALS if not _is_nohup(number)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def defer(self) -> None:
        """Lets signals wait from here on: there is something to save before the end."""
        self._deferred = True

    def pop_save_request(self) -> bool:
        """Returns whether a checkpoint was requested since the last call."""
        requested, self._save_requested = self._save_requested, False
        return requested

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker process has inherited this handler: its parent decides
            return
        if number == getattr(signal, "SIGUSR1", None):
            self._save_requested = True
            return
        self.stop = self.stop or signal.Signals(number)
        if not self._deferred:
            raise Interrupted(self.stop, BEFORE)
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            os._exit(128 + signal.SIGINT)


def _is_nohup(number: signal.Signals) -> bool:
    """Returns whether this is SIGHUP, and `nohup` has switched it off for this process."""
    return number.name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN
