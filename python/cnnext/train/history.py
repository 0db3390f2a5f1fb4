"""What a run has measured, epoch by epoch."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["TIMES", "History", "as_csv", "check_mode"]

# Kept apart from what is the same for every run of the same configuration.
TIMES = ("seconds", "images_per_second")


class History(dict[str, list]):
    """A dict of lists, one entry an epoch: "epoch" (from 1), "lr", "train_loss", "validation_loss", ...

    "seconds" and "images_per_second" are there, too; files leave them out unless they are asked for, so
    that two runs of the same bits write the same bytes.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        super().__init__()
        for row in rows:
            self.append(row)

    @property
    def epochs(self) -> int:
        """How many are complete."""
        return len(next(iter(self.values()), ()))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict an epoch: what viz.training_curves takes."""
        return [dict(zip(self, values, strict=True)) for values in zip(*self.values(), strict=True)]

    def append(self, row: Mapping[str, Any]) -> None:
        """Add an epoch. ValueError where its names are not those of the epochs before."""
        if self and set(row) != set(self):
            raise ValueError(f"the row holds {', '.join(row)}; the history holds {', '.join(self)}")
        for name, value in row.items():
            self.setdefault(name, []).append(value)

    def best(self, monitor: str, mode: str = "auto") -> int:
        """The number of the epoch with the best value, from 1, among equals the latest; 0 without epochs.

        NaN is worse than any other.

        monitor: the name of a column. mode: "min", "max", or "auto": "min" for names that end in "loss".
        """
        check_mode(mode)
        if not self:
            return 0
        if monitor not in self:
            raise ValueError(f"monitor is {monitor!r}; the rule is one of {', '.join(self)}")
        less = mode == "min" or (mode == "auto" and monitor.endswith("loss"))
        values = [-math.inf if math.isnan(v) else -v if less else v for v in self[monitor]]
        return max(range(len(values)), key=lambda i: (values[i], i)) + 1

    def columns(self, times: bool = False) -> list[str]:
        """The names, with `times` those of the times too."""
        return [name for name in self if times or name not in TIMES]

    def to_csv(self, path: str | os.PathLike[str], times: bool = False) -> None:
        """Write a CSV file with a header; floats in full precision."""
        Path(path).write_text(as_csv(self.columns(times), self.rows), encoding="utf-8")

    def to_json_lines(self, path: str | os.PathLike[str], times: bool = False) -> None:
        """Write one JSON object an epoch, each on its line."""
        Path(path).write_text(self.json_lines(times), encoding="utf-8")

    def json_lines(self, times: bool = False) -> str:
        """The text of to_json_lines."""
        columns = self.columns(times)
        return "".join(json.dumps({name: row[name] for name in columns}) + "\n" for row in self.rows)


def check_mode(mode: str) -> None:
    """ValueError for what `History.best` does not take."""
    if mode not in ("auto", "min", "max"):
        raise ValueError(f"mode is {mode!r}; the rule is one of auto, min, max")


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV with a header, columns that are not named left out."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
