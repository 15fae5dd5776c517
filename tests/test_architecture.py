"""The house keeps its plan: one-way imports, an exact interface, cards equal to their numbers."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from helpers.paths import ROOT

import saliency
import vqa
from training.card import render

OURS = ("saliency", "vqa", "training", "ui", "app", "benchmarks", "tests")
ALLOWED = {  # who may import whom
    "saliency": {"saliency"},
    "vqa": {"vqa"},
    "training": {"training", "vqa", "saliency"},
    "ui": {"ui", "vqa", "saliency"},
    "app": {"app", "ui", "vqa"},
    "benchmarks": {"benchmarks", "training", "vqa", "saliency"},
}
# of vqa: what stands above the models
EXPLAINING = {"vqa/engine.py", "vqa/metrics/functional/gaze.py"}
CARDS = sorted(p.parent for p in (ROOT / "model_cards").glob("*/model.safetensors"))


def place(path):
    return path.relative_to(ROOT).as_posix()


def sources(package):
    return sorted((ROOT / package).rglob("*.py")) or [ROOT / f"{package}.py"]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_one_way(package):
    for path in sources(package):
        allowed = ALLOWED[package] | ({"saliency"} if place(path) in EXPLAINING else set())
        tops = {name.split(".")[0] for name in imported(path)} & set(OURS)
        assert tops <= allowed, f"{path.name} imports {tops - allowed}"


def test_saliency_knows_only_torch_numpy_and_pillow():
    plain = {"torch", "numpy", "PIL", "saliency", *sys.stdlib_module_names}
    for path in sources("saliency"):
        allowed = plain | ({"lime", "skimage"} if path.name == "lime_image.py" else set())
        assert {name.split(".")[0] for name in imported(path)} <= allowed, path.name


def modules():
    """Every module of ours by its dotted name; an `__init__` by its package's."""
    paths = [path for package in ALLOWED for path in sources(package)]
    dotted = {place(path).removesuffix(".py").replace("/", "."): path for path in paths}
    return {name.removesuffix(".__init__"): path for name, path in dotted.items()}


def imports_of(path, known):
    """The modules of ours that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in known else node.module for name in names)


def test_no_module_imports_itself_over_others():
    known = modules()
    arrows = {name: {*imports_of(path, known)} & set(known) for name, path in known.items()}
    assert sum(map(len, arrows.values())) > 200
    TopologicalSorter(arrows).prepare()  # CycleError names a cycle


LAYERS = [  # of `vqa`: each imports only from its own and those below
    {"engine", "__main__", "batch", "hub", "serving", "__init__"},
    {"pipelines"},
    {"checkpoints", "scorers"},
    {"tasks"},
    {"models", "metrics", "data"},
    {"preprocessing", "emoji_labels", "runtime"},
    {"errors"},
]


def test_the_rooms_of_vqa_stand_on_those_below():
    known = modules()
    floor = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
    for name, path in known.items():
        own = name.split(".")
        if own[0] != "vqa" or len(own) == 1:
            continue
        for other in imports_of(path, known):
            there = other.split(".")
            if there[0] == "vqa" and len(there) > 1:
                assert floor[there[1]] >= floor[own[1]], f"{name} imports {other}"


@pytest.mark.parametrize("package", [vqa, saliency], ids=lambda package: package.__name__)
def test_the_public_interface_is_exact(package):
    tree = ast.parse(Path(package.__file__).read_text())
    names = {a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert set(package.__all__) == names
    assert all(hasattr(package, name) for name in package.__all__)


def test_importing_is_quiet_and_light():
    code = (
        "import sys, vqa, saliency; heavy = {'transformers', 'datasets', 'evaluate', 'gradio',"
        "'sklearn', 'skimage', 'lime', 'matplotlib'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_no_pickle_is_opened():
    for package in (*ALLOWED, "benchmarks"):
        for path in sources(package):
            assert not re.search(r"torch\.load\(|pickle\.load", path.read_text()), path.name


def test_files_and_functions_stay_within_the_rules():
    for package in ALLOWED:
        for path in sources(package):
            text = path.read_text(encoding="utf-8")
            assert text.count("\n") <= 400, path.name
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    doc = (ast.get_docstring(node) or "").count("\n") + 1
                    assert node.end_lineno - node.lineno + 1 - doc <= 60, node.name


def test_no_docstring_makes_the_reader_look_elsewhere():
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for package in ALLOWED:
        for path in sources(package):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                text = (isinstance(node, kinds) and ast.get_docstring(node)) or ""
                assert not re.match(r"As of\b|As `|The same\b|Likewise\b", text), node.name


@pytest.mark.parametrize("folder", CARDS, ids=[p.name for p in CARDS])
def test_a_card_says_what_its_numbers_say(folder):
    assert (folder / "README.md").read_text(encoding="utf-8") == render(folder)


@pytest.mark.parametrize("folder", CARDS, ids=[p.name for p in CARDS])
def test_shipped_weights_are_small_and_load(folder):
    assert (folder / "model.safetensors").stat().st_size <= 25 * 2**20
    assert vqa.load(folder.name)
