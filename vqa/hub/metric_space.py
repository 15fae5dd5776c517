"""A metric as a Space of the Hub, from where `evaluate.load("org/name")` takes it.

evaluate fetches one file, named like the Space, and the files beside it from which that one imports
relatively, but not what these import. So the metric's file and those of ours that it needs lie flat
in the Space, and the first imports all others.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path
from typing import Any

from vqa.checkpoints.layout import CARD

METRICS: dict[str, dict[str, Any]] = {  # of `vqa.metrics`, each with an example
    "vqa_accuracy": {
        "predictions": ["2", "red"],
        "references": [["2"] * 10, ["red"] * 2 + ["orange"] * 8],
    },
    "caption_scores": {
        "predictions": ["a dog runs on the beach", "two cats sleep"],
        "references": [["a dog runs along the beach", "the dog is running"], ["two cats asleep"]],
    },
    "gaze_scores": {
        "predictions": [[[0.1, 0.9]], [[0.8, 0.2]]],
        "references": [[[0.8, 0.5], [0.7, 0.4]], [[0.2, 0.5]]],
    },
    "emoji_scores": {
        "predictions": [[1, 0], [0, 1]],
        "references": [[1], [1]],
        "num_labels": 2,
    },
}
PACKAGES = {"sklearn": "scikit-learn"}  # where a package is not called as it is imported
_OURS = re.compile(r"^from (?:vqa|saliency)[\w.]*\.(\w+) import", re.MULTILINE)
_APP = """from pathlib import Path

import evaluate
from widget import page

METRIC = str(Path(__file__).with_name("{name}.py"))
page(lambda: evaluate.load(METRIC, keep_in_memory=True), {example}).launch()
"""
_ABOUT = """
# {name}

{info.description}

```python
import evaluate

metric = evaluate.load("{repo_id}")
metric.compute({example})
```

{info.inputs_description}

## Citation

{info.citation}
"""


def files(root: Path, metric: str, repo_id: str) -> dict[str, bytes]:
    """What the Space of a metric holds.

    Args:
        root: of this repository.
        metric: one of `METRICS`.
        repo_id: of the Space, "org/name".
    """
    name = repo_id.rpartition("/")[2]
    sources = _flat(root, root / "vqa" / "metrics" / f"{metric}.py", name)
    others = "".join(f"from .{Path(each).stem} import *\n" for each in list(sources)[1:])
    sources[f"{name}.py"] = sources[f"{name}.py"].replace("from .", f"{others}from .", 1)
    packages = {"evaluate", "datasets"}.union(*map(_packages, sources.values()))
    texts = {
        **sources,
        "widget.py": (root / "vqa" / "metrics" / "widget.py").read_text(encoding="utf-8"),
        "app.py": _APP.format(name=name, example=_example(metric)),
        "requirements.txt": _requirements(root, packages),
        CARD: _card(root, metric, repo_id),
    }
    return {path: text.encode() for path, text in texts.items()}


def _example(metric: str) -> str:
    """The arguments of a call."""
    return ", ".join(f"{name}={value!r}" for name, value in METRICS[metric].items())


def _flat(root: Path, path: Path, name: str) -> dict[str, str]:
    """A file, under another name, and those of ours that it needs, with relative imports."""
    text = path.read_text(encoding="utf-8")
    found = {f"{name}.py": _OURS.sub(r"from .\1 import", text)}
    for line in _OURS.finditer(text):
        needed = root.joinpath(*line[0].split()[1].split(".")).with_suffix(".py")
        found |= _flat(root, needed, line[1])
    return found


def _packages(text: str) -> set[str]:
    """The packages of others that a file imports, anywhere."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).partition(".")[0])
    return {PACKAGES.get(each, each) for each in found - sys.stdlib_module_names}


def _requirements(root: Path, packages: set[str]) -> str:
    """Those lines of ours that name the packages."""
    names = ("requirements.txt", "requirements-dev.txt")
    lines = [line for name in names for line in (root / name).read_text("utf-8").splitlines()]
    kept = [line for line in lines if re.split(r"[<>=!~ ]", line)[0] in packages]
    return "\n".join(sorted(kept)) + "\n"


def _card(root: Path, metric: str, repo_id: str) -> str:
    from huggingface_hub import RepoCard

    module = importlib.import_module(f"vqa.metrics.{metric}")
    kind = getattr(module, metric.title().replace("_", ""))
    ours = RepoCard.load(root / CARD).data
    settings = {
        "title": repo_id.rpartition("/")[2],
        "emoji": "👁️",
        **{name: ours[name] for name in ("colorFrom", "colorTo", "sdk", "sdk_version", "license")},
        "python_version": ours["python_version"],
        "app_file": "app.py",
        "tags": ["evaluate", "metric"],
    }
    about = {"name": settings["title"], "repo_id": repo_id, "example": _example(metric)}
    card = RepoCard("---\n{}\n---\n" + _ABOUT.format(info=kind().info, **about))
    for name, value in settings.items():
        card.data[name] = value
    return str(card)
