"""What the handler's file is called; a program too, for builds where the package is not there yet.

python _handler_file.py VERSION HEADER     prints the name, and the folder of jaxlib's headers
"""

from __future__ import annotations

import hashlib
import platform
import sys
from pathlib import Path

import jaxlib

__all__ = ["SOURCE", "handler_name"]

SOURCE = Path(__file__).with_name("handler.cpp")


def handler_name(version: str, header: Path) -> str:
    """The file for the installed jaxlib and for cnnext of this version, whose C header lies there."""
    digest = hashlib.sha256(SOURCE.read_bytes() + header.read_bytes()).hexdigest()[:12]
    versions = f"cnnext-{version}-jaxlib-{jaxlib.__version__}-{platform.machine()}"
    return f"jax-handler-{versions}-{digest}.so"


if __name__ == "__main__":
    # jax.ffi.include_dir(), without jax.
    print(handler_name(sys.argv[1], Path(sys.argv[2])), Path(jaxlib.__file__).parent / "include", sep="\n")
