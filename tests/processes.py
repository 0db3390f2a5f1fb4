"""Processes on this machine that meet on the loopback address, as a launcher starts them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import socket
import subprocess
import sys

#: Which launchers there are.
HAS = {
    "torch": importlib.util.find_spec("torch") is not None,
    "mpi": importlib.util.find_spec("mpi4py") is not None and shutil.which("mpirun") is not None,
}


def free_port() -> int:
    """One below those that outgoing connections take, which would come in between."""
    for _ in range(100):
        port = random.randrange(20_000, 30_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def commands_of(launcher: str, size: int, arguments: list[str]) -> list[tuple[list[str], dict[str, str]]]:
    """What to start for `python ARGUMENTS` by "torch" or "mpi" (mpirun itself), in which environment."""
    command = [sys.executable, *arguments]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    if launcher == "mpi":
        root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
        mca = ["--mca", "btl", "self,vader,tcp", "--mca", "btl_tcp_if_include", "lo"]
        return [(["mpirun", *root, "--oversubscribe", *mca, "-n", str(size), *command], environment)]
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}
    environment["LOCAL_WORLD_SIZE"] = str(size)
    return [(command, {**environment, "RANK": str(r), "LOCAL_RANK": str(r)}) for r in range(size)]


def launch(launcher: str, size: int, arguments: list[str]) -> list[tuple[int, str]]:
    """Each process's status and output (mpirun: its own)."""
    processes = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for command, environment in commands_of(launcher, size, arguments)
    ]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.stdout.close()
            process.wait()
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]
