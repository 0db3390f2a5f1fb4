"""Processes on this machine that meet on the loopback address, as a launcher starts them."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys


def free_port() -> int:
    """One below those that outgoing connections take, which would come in between."""
    for _ in range(100):
        port = random.randrange(20_000, 30_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def launch(launcher: str, size: int, arguments: list[str]) -> list[tuple[int, str]]:
    """`python ARGUMENTS` by "torch" or "mpi": each process's status and output (mpirun: its own)."""
    command = [sys.executable, *arguments]
    if launcher == "mpi":
        root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
        mca = ["--mca", "btl", "self,vader,tcp", "--mca", "btl_tcp_if_include", "lo"]
        commands = [["mpirun", *root, "--oversubscribe", *mca, "-n", str(size), *command]]
        environments = [dict(os.environ)]
    else:
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}
        commands = [command] * size
        environments = [
            {**os.environ, **meeting, "RANK": str(r), "LOCAL_RANK": str(r), "LOCAL_WORLD_SIZE": str(size)}
            for r in range(size)
        ]
    for environment in environments:
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    processes = [
        subprocess.Popen(c, env=e, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for c, e in zip(commands, environments, strict=True)
    ]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]
