#!/usr/bin/env python3
"""Compares python/cnnext/_C.pyi with the built module: names, parameters, and the members of classes.

Prints every difference and exits 1 where there is one. Needs cnnext to be installed (or on PYTHONPATH).
"""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

from cnnext import _C

STUB = Path(__file__).resolve().parent.parent / "python" / "cnnext" / "_C.pyi"


def stub_names() -> dict[str, object]:
    """Name -> parameter names of a function, or member names of a class, as the stub has them."""
    names: dict[str, object] = {}
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            given = node.args
            if given.args or given.kwonlyargs or given.vararg or given.kwarg or given.defaults:
                raise SystemExit(f"{STUB}:{node.lineno}: {node.name} must be positional only")
            names[node.name] = tuple(arg.arg for arg in given.posonlyargs)
        elif isinstance(node, ast.ClassDef):
            names[node.name] = {
                item.name
                for item in node.body
                if isinstance(item, ast.FunctionDef) and not item.name.startswith("_")
            }
    return names


def module_names() -> dict[str, object]:
    """The same of the module that was built."""
    names: dict[str, object] = {}
    for name, value in vars(_C).items():
        if name.startswith("_"):
            continue
        if inspect.isclass(value):
            names[name] = {member for member in vars(value) if not member.startswith("_")}
        else:
            names[name] = tuple(inspect.signature(value).parameters)
    return names


def main() -> int:
    stub, module = stub_names(), module_names()
    problems = [f"{name}: in the module, not in the stub" for name in sorted(module.keys() - stub.keys())]
    problems += [f"{name}: in the stub, not in the module" for name in sorted(stub.keys() - module.keys())]
    problems += [
        f"{name}: the stub says {stub[name]}, the module {module[name]}"
        for name in sorted(stub.keys() & module.keys())
        if stub[name] != module[name]
    ]
    for problem in problems:
        print(f"{STUB.name}: {problem}", file=sys.stderr)
    print(f"{STUB.name}: {len(module)} names checked, {len(problems)} differences")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
