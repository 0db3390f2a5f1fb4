"""Processes that torch.distributed joins."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import re
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from .group import DistributedError, Group

__all__ = ["TorchGroup", "join_torch"]


def _first_line(error: Exception) -> str:
    """torch's text without the places in its own source, which tell nothing here."""
    text = " ".join(str(error).split())
    text = re.split(r" ?Exception raised from | ?\(most recent call first\)", text)[0]
    return re.sub(r"^(\[[^\]]*\.(cc|cpp|h):\d+\] *)+", "", text)[:300]


class _Meeting:
    """The store by which processes met, and how often they have left."""

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self._store, self._times, self._rank, self._size = store, 0, rank, size

    def leave(self) -> None:
        """Waits for all; the first process, which may be the store's host, is the last to go on."""
        self._times += 1  # keys of before are full
        here, left = f"here {self._times}", f"left {self._times}"
        try:
            self._store.add(here, 1)
            self._await(here, self._size)
            if self._rank:
                self._store.add(left, 1)
            else:
                self._await(left, self._size - 1)
        except DistributedError:
            raise
        except RuntimeError as error:
            raise self._error(f"({_first_line(error)})") from error

    def _await(self, key: str, count: int) -> None:
        end = time.monotonic() + self._store.timeout.total_seconds()
        while self._store.add(key, 0) < count:
            if time.monotonic() > end:
                raise self._error(f"in {self._store.timeout.total_seconds():g} seconds")
            time.sleep(0.005)

    def _error(self, why: str) -> DistributedError:
        return DistributedError(f"rank {self._rank} of {self._size}: not all came to leave() {why}")


class TorchGroup(Group):
    """Over a process group of torch.distributed; None: the default one. meeting: where its processes met."""

    def __init__(self, process_group: Any = None, meeting: _Meeting | None = None) -> None:
        import torch
        import torch.distributed as dist

        self._torch, self._dist, self._group, self._meeting = torch, dist, process_group, meeting
        self.rank, self.size = dist.get_rank(process_group), dist.get_world_size(process_group)

    @property
    def takes_numpy(self) -> bool:
        """Surely, where init() made the group, over gloo; another may take a GPU's arrays alone."""
        return self._meeting is not None

    def _view(self, array: Any) -> Any:
        """torch's view of the bytes, so that any dtype passes."""
        flat = array.reshape(-1).view(np.uint8)
        return self._torch.from_numpy(flat) if isinstance(flat, np.ndarray) else self._torch.from_dlpack(flat)

    @contextlib.contextmanager
    def _errors_of(self, name: str) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise DistributedError(
                f"rank {self.rank} of {self.size}: {name} failed: another process has ended or does not "
                f"answer ({_first_line(error)})"
            ) from error

    def _call(self, name: str, *args: Any) -> None:
        with self._errors_of(name):
            getattr(self._dist, name)(*args, group=self._group)

    def all_to_all(self, send: Any, receive: Any) -> None:
        """See Group."""
        self._call("all_to_all_single", self._view(receive), self._view(send))

    def all_gather(self, send: Any, receive: Any) -> None:
        """See Group."""
        new = hasattr(self._dist, "all_gather_single")  # the other's name in torch before 2.13
        name = "all_gather_single" if new else "all_gather_into_tensor"
        self._call(name, self._view(receive), self._view(send))

    def broadcast(self, array: Any) -> None:
        """See Group."""
        first = 0 if self._group is None else self._dist.get_global_rank(self._group, 0)
        self._call("broadcast", self._view(array), first)

    def duplicate(self) -> Group:
        """See Group."""
        ranks = self._dist.get_process_group_ranks(self._group) if self._group is not None else None
        with self._errors_of("new_group"):
            return TorchGroup(self._dist.new_group(ranks))

    def leave(self) -> None:
        """See Group; where init() made the group. gloo's own barrier is no way out: it fails in a process
        that has not left it when another's connection closes.
        """
        if self._meeting is not None:
            self._meeting.leave()


# Where the processes of a group met that init() made.
_meetings: weakref.WeakKeyDictionary[Any, _Meeting] = weakref.WeakKeyDictionary()
_count = itertools.count()


def join_torch(timeout: float) -> TorchGroup:
    """The default process group, which is made over gloo where there is none."""
    try:
        import torch.distributed as dist
    except ImportError as error:
        raise ImportError("torchrun's processes need torch: pip install 'cnnext[torch]'") from error
    if not dist.is_initialized():
        limit = datetime.timedelta(seconds=timeout)
        try:
            store, rank, size = next(dist.rendezvous("env://", timeout=limit))
            # One after the other in a process may share the store, where the former's keys still are.
            store = dist.PrefixStore(f"cnnext {next(_count)}", store)
            dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=limit)
        except (RuntimeError, ValueError) as error:
            raise DistributedError(f"the processes did not meet: {_first_line(error)}") from error
        _meetings[dist.group.WORLD] = _Meeting(dist.PrefixStore("leave", store), rank, size)
    return TorchGroup(meeting=_meetings.get(dist.group.WORLD))
