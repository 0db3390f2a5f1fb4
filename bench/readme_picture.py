"""README's picture of the speed, from the stored results: each layer's ratio to one peer.

python -m bench.readme_picture bench/results/2026-11-23-amd-epyc-2cpu/conv.json docs/images/speed.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.plots import ratio_bars

CONTESTANT, PEER = "cnnext avx512", "torch kept"


def draw(results: Path, picture: Path) -> None:
    """results: a run's JSON with this contestant and this peer."""
    ratios = json.loads(results.read_text())["ratios"]
    chosen = [entry for entry in ratios if (entry["contestant"], entry["peer"]) == (CONTESTANT, PEER)]
    if not ratio_bars(chosen, picture):
        raise SystemExit(f"{results}: no ratios of {CONTESTANT} to {PEER}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
