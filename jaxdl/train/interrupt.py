"""Signals that let the running call finish."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence


@contextlib.contextmanager
def interruptible(signals: Sequence[int]) -> Iterator[Callable[[], int]]:
    """Yields a function that says which of the signals has come, or 0.

    A second Ctrl-C interrupts at once. At the end the handlers are what they were. Outside of the
    main thread, where Python takes no signals, it is always 0.
    """
    came = 0

    def note(number, frame):
        nonlocal came
        if came == number == signal.SIGINT:
            raise KeyboardInterrupt
        came = number

    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    before = {number: signal.signal(number, note) for number in signals}
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
