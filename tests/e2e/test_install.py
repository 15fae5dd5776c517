"""`pip install .`: the library, the shipped weights and the command, away from the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions

import pytest
from helpers.paths import ROOT
from helpers.tiny import draw

from vqa.checkpoints.layout import HUB_FILES, SHIPPED

NEEDED = ("pyproject.toml", "requirements.txt", "LICENSE", "vqa", "saliency", "model_cards")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that a copy of the repository was installed to, without a network."""
    copy, target = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("site")
    for name in NEEDED:  # pip leaves its work in the folder that it installs from
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    options = ["--no-build-isolation", "--disable-pip-version-check", "--target", str(target)]
    subprocess.run([*pip, *options, str(copy)], check=True)
    return target


def test_it_holds_the_library_and_the_weights_and_nothing_else(installed):
    names = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"bin", "saliency", "vqa"}
    for package in ("vqa", "saliency"):
        ours = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
        assert {path.relative_to(installed) for path in (installed / package).rglob("*.py")} == ours
    for folder in SHIPPED.iterdir():
        for name in HUB_FILES:
            copy = installed / "vqa" / "model_cards" / folder.name / name
            assert copy.read_bytes() == (folder / name).read_bytes()


def test_it_needs_what_the_requirements_name(installed):
    (found,) = distributions(path=[str(installed)])
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert sorted(map(bare, found.requires)) == sorted(
        bare(line) for line in lines if not line.startswith("#")
    )
    assert found.metadata["Name"] == "seewhy"
    assert found.metadata["License-Expression"] == "Apache-2.0"


def bare(requirement):
    """Its name and its ranges, whatever their order."""
    name, ranges = re.fullmatch(r"([\w.-]+)(.*)", requirement.replace(" ", "")).groups()
    return name, sorted(ranges.split(","))


def test_the_installed_command_finds_the_shipped_weights(installed, tmp_path):
    (tmp_path / "photo.png").write_bytes(draw("red", "square"))
    done = subprocess.run(
        [installed / "bin" / "seewhy", "gaze", "photo.png", "--why", "why.png"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert "of the mass" in done.stdout
    assert (tmp_path / "why.png").is_file()
