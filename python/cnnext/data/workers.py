"""Batches made by threads, ahead of who takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["made_ahead"]

T = TypeVar("T")


def made_ahead(
    make: Callable[[int], T], numbers: Iterable[int], workers: int, ahead: int
) -> Generator[T, None, None]:
    """``make(number)`` of each number in order, up to `ahead` of them under way in `workers` threads.

    What `make` raises is raised here, behind the results before it. However this ends (all are taken, an
    error, Ctrl-C, the generator closed or forgotten), the threads have ended when it does.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="cnnext.data")
    coming: deque[Future[T]] = deque()
    try:
        for number in numbers:
            coming.append(pool.submit(make, number))
            if len(coming) > ahead:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
