#!/usr/bin/env python3
"""Draws the pictures of docs/what-is-a-cnn.md anew, and puts what its scripts print on the page.

python tools/draw_docs.py                       # all of it, in place: about a minute
python tools/draw_docs.py --quick --out FOLDER  # only to see that the scripts run and draw every picture
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "examples" / "what_is_a_cnn"
PAGE = ROOT / "docs" / "what-is-a-cnn.md"
BLOCK = re.compile(r"^<!-- (\w+) -->\n```text\n.*?^```", re.MULTILINE | re.DOTALL)


def run(name: str, quick: bool, out: Path) -> str:
    """What the script prints."""
    path = SCRIPTS / f"{name}.py"
    options = ["--quick"] if quick and "trains=True" in path.read_text() else []
    command = [sys.executable, str(path), "--out", str(out), *options]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="train for one epoch, and leave the page alone")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="folder (docs/images)")
    chosen = parser.parse_args()
    page = PAGE.read_text()
    printed = {name: run(name, chosen.quick, chosen.out) for name in BLOCK.findall(page)}
    if not chosen.quick:
        PAGE.write_text(BLOCK.sub(lambda m: f"<!-- {m[1]} -->\n```text\n{printed[m[1]]}```", page))
    missing = [name for name in re.findall(r"\]\(images/([^)]+)\)", page) if not (chosen.out / name).exists()]
    if missing:
        raise SystemExit(f"no script draws {', '.join(missing)}")


if __name__ == "__main__":
    main()
