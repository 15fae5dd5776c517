"""Models on the tests' Hub."""

from __future__ import annotations

import os
import subprocess
import sys

from helpers.paths import ROOT
from vqa.checkpoints.layout import HUB_FILES

MODEL = {name: f"{name}, version 1 ".encode() * 50 for name in HUB_FILES}


NEWER = {name: data.replace(b"1", b"2") for name, data in MODEL.items()}


ID = "org/model"


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def fetched(hub, part=""):
    """The files that were asked for."""
    return [request for request in hub.requests if "/resolve/" in request and part in request]


def run(hub, tmp_path, *command):
    """A program that takes this for the only Hub."""
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    environment |= {"HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, *map(str, command)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
