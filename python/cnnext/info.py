"""What this installation is and what it runs on."""

from __future__ import annotations

from dataclasses import dataclass

from . import _C


@dataclass(frozen=True)
class Info:
    """The answer of info(); str() is a table."""

    version: str
    isa: str  #: the CPU instruction set in use
    isa_available: tuple[str, ...]  #: those that this build and this processor support, best last
    threads: int  #: the size of the thread pool
    cuda: str  #: "available", or why not
    cuda_devices: tuple[str, ...]  #: their names, by number
    build: str  #: compiler and options

    def __str__(self) -> str:
        rows = {
            "cnnext": self.version,
            "isa": f"{self.isa} (of {', '.join(self.isa_available)})",
            "threads": str(self.threads),
            "cuda": "; ".join(f"cuda:{i} {name}" for i, name in enumerate(self.cuda_devices)) or self.cuda,
            "build": self.build,
        }
        width = max(map(len, rows))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def info() -> Info:
    """Version, instruction set, threads, CUDA and build of this installation."""
    try:
        devices = tuple(_C.cuda_devices())
        cuda = "available" if _C.cuda_available() else _C.cuda_reason()
    except RuntimeError as error:  # of a device that is lost, which is worth telling
        devices, cuda = (), str(error)
    return Info(
        version=_C.version(),
        isa=_C.isa(),
        isa_available=tuple(_C.isa_available()),
        threads=_C.get_num_threads(),
        cuda=cuda,
        cuda_devices=devices,
        build=_C.build_info(),
    )
