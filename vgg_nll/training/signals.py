"""What the system asks of a running process: to stop (SIGTERM, SIGINT), or to save and go on (SIGUSR1)."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

HANDLED_SIGNALS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
]  # Windows has two
BEFORE = "before the first step"


class Interrupted(BaseException):
    """The process was asked to stop, and does; no error, so nothing that catches errors catches it.

    `exit_code` is 128 + signal, as a shell gives it.
    """

    def __init__(self, number: signal.Signals, message: str) -> None:
        super().__init__(f"stopped by {number.name}: {message}")
        self.exit_code = 128 + number


class Signals:
    """Notes a signal to stop while its block runs, in `stop`, for the loop to look at; until `defer`, also raises Interrupted.

    A second SIGINT then ends the process at once; files are replaced whole, so none is left half-written. Outside the main
    thread, where Python takes no signals, nothing is noted.
    """

    def __init__(self) -> None:
        self.stop: signal.Signals | None = None
        self._save = self._deferred = False
        self._before: dict[signal.Signals, Any] = {}
        self._process = os.getpid()
        self._interrupts = 0

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in HANDLED_SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def defer(self) -> None:
        """From here on there is something to save before the end."""
        self._deferred = True

    def pop_save_request(self) -> bool:
        """Whether a save was asked for since the last look."""
        asked, self._save = self._save, False
        return asked

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker process that has inherited this: its parent decides
            return
        if number not in (signal.SIGTERM, signal.SIGINT):
            self._save = True
            return
        self.stop = self.stop or signal.Signals(number)
        if not self._deferred:
            raise Interrupted(self.stop, BEFORE)
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            os._exit(128 + signal.SIGINT)
