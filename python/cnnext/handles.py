"""What registering a hook returns."""

from __future__ import annotations

import itertools
import weakref
from typing import Any

_ids = itertools.count()


class RemovableHandle:
    """Takes a hook away again (torch.utils.hooks.RemovableHandle): remove(), or the end of a with block."""

    def __init__(self, owner: Any, kind: str) -> None:
        self.id = next(_ids)
        self._owner, self._kind = weakref.ref(owner), kind

    def remove(self) -> None:
        """Take the hook away; nothing where it is gone already."""
        owner = self._owner()
        if owner is not None:
            getattr(owner, self._kind).pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
