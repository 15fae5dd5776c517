"""What every number in a metrics.json carries: the command, commit and settings that made it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def provenance() -> dict[str, str]:
    """This process's command, and the working tree's commit (`-dirty` if it has other changes)."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    program = f"python -m {module.name}" if module else f"python {Path(sys.argv[0]).name}"
    return {"command": " ".join([program, *map(plain_path, sys.argv[1:])]), "commit": _commit()}


def _commit() -> str:
    run = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--abbrev=40",
        "--dirty",
    ]
    try:
        found = subprocess.run([*run, "--exclude=*"], capture_output=True, text=True, check=False)
    except OSError:  # no git here: a number without a commit is better than none
        return "unknown"
    return found.stdout.strip() or "unknown"


def plain_path(text: str) -> str:
    """Absolute paths, with commas between, without the folders that only this machine has."""
    return ",".join(map(_plain, text.split(",")))


def _plain(text: str) -> str:
    flag, equals, value = text.rpartition("=")
    path = Path(value)
    return flag + equals + "/".join(path.parts[-2:]) if path.is_absolute() else text


def plain_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings whose texts no longer hold the folders that only this machine has."""
    return {k: plain_path(v) if isinstance(v, str) else v for k, v in settings.items()}


def record(path: str | Path, section: str, entry: dict[str, Any]) -> None:
    """Put an entry under a section of a metrics.json, whole or not at all; other sections stay.

    Raises:
        ValueError: if the file is there and is no JSON object.
    """
    path = Path(path)
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object")
    content[section] = entry
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    fresh.replace(path)
