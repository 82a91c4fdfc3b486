"""Signals are raised while there is nothing to lose, noted after that, and not for worker processes."""

import os
import signal

import pytest

from vgg_nll.training.signals import Interrupted, Signals


def test_before_and_after_there_is_something_to_save() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        with pytest.raises(Interrupted, match="stopped by SIGTERM: before the first step") as end:
            signal.raise_signal(signal.SIGTERM)
        assert end.value.exit_code == 143
        assert signals.stop is signal.SIGTERM  # also where what it fell into has swallowed it
    with Signals() as signals:
        signals.defer()
        assert signals.stop is None
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)  # the first one counts
        assert signals.stop is signal.SIGTERM
        assert not signals.pop_save_request()
        signal.raise_signal(signal.SIGUSR1)
        assert signals.pop_save_request()
        assert not signals.pop_save_request()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_terminal_that_is_closed() -> None:
    """Saves and stops; under nohup, training continues."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with Signals() as signals:
            signals.defer()
            signal.raise_signal(signal.SIGHUP)
            assert signals.stop is signal.SIGHUP
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Signals() as signals:
            signals.defer()
            signal.raise_signal(signal.SIGHUP)
            assert signals.stop is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_worker_process_leaves_it_to_its_parent() -> None:
    """Ctrl-C goes to all processes of a terminal; a worker that inherited the handler continues."""
    with Signals() as signals:
        signals.defer()
        child = os.fork()
        if child == 0:
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)
            os._exit(0 if signals.stop is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert signals.stop is None
