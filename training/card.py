"""Render a model's card from its template, its config and its metrics.json.

    python -m training.card model_cards/vqa

Writes README.md, its picture (example.jpg: what the model makes of a photo), and what the Hub reads
besides, `.eval_results`. No number in a card is typed: a card that differs from what this writes
fails a test.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
from pathlib import Path
from typing import Any

from safetensors import safe_open

from training.cards import example
from training.cards.recipe import lineage
from vqa.checkpoints.layout import CARD
from vqa.hub.publish import EVALUATED, EXAMPLE
from vqa.tasks import BY_MODEL_TYPE

TEMPLATES = Path(__file__).parent / "cards"
QUALITY = 85  # of the picture, as JPEG
STALE = (CARD, EXAMPLE, "metrics.json")  # with other weights
LABELS = {  # how a card names a result of metrics.json; others by their own name
    "answer": "**this model**",
    "frozen": "before its encoder learnt too",
    "blind": "question only",
    "daquar": "this model, on DAQUAR",
    "caption": "**this model, beam 3**",
    "coco": "this model, on COCO captions",
    "gaze": "**this model**",
    "objects": "**this model**",
}
ABLATION = "ablation: "  # begins the names of results that a card shows in a table of their own
GATED = "gaze, gated prior"
CONTRASTS = {  # what the questions of the ablation are, in words
    (GATED, "no gaze"): ("The gated prior", "no gaze at all"),
    (GATED, "gaze of other pictures, gated prior"): (
        "The gated prior",
        "the gaze of other pictures",
    ),
    ("no gaze, with concepts", "no gaze"): ("The detector of concepts", "no detector"),
}


def write(directory: str | Path) -> None:
    """Write the card into its folder, with its picture and `.eval_results`; old ones go.

    Raises:
        KeyError: as of `render`.
    """
    directory = Path(directory)
    shutil.rmtree(directory / EVALUATED, ignore_errors=True)
    (directory / EXAMPLE).unlink(missing_ok=True)
    (directory / CARD).write_text(render(directory), encoding="utf-8")
    if found := evaluated(directory):
        (directory / EVALUATED).mkdir()
        for name, text in found.items():
            (directory / EVALUATED / name).write_text(text, encoding="utf-8")
    if shown := _example(directory):
        shown.picture.save(directory / EXAMPLE, quality=QUALITY)


def render(directory: str | Path) -> str:
    """The card of a checkpoint.

    Args:
        directory: holds config.json, metrics.json, vocab.json and model.safetensors. Without the
            result that its kind is judged by, the card only tells how the model was made.

    Raises:
        KeyError: if metrics.json lacks the training.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    directory = Path(directory)
    config, metrics, main = _read(directory)
    task = BY_MODEL_TYPE[config["model_type"]]
    kind = {name: value for name, value in task.card.items() if name not in ("metrics", "task")}
    data = ModelCardData(
        language="en",
        license="apache-2.0",
        library_name="seewhy",
        base_model=[f"google/{name}" for name in _networks(config)] or None,
        eval_results=[
            EvalResult(
                task_type=kind["pipeline_tag"],
                dataset_type=main["dataset"],
                dataset_name=main["dataset"],
                dataset_split=main["split"],
                metric_type=metric,
                metric_name=task.metrics[key],
                metric_value=main["metrics"][key],
            )
            for key, metric in task.card["metrics"].items()
        ]
        if main
        else None,
        **(kind if main else {k: v for k, v in kind.items() if k != "model_name"}),
    )
    template = TEMPLATES / (f"{config['model_type']}.md" if main else "unmeasured.md")
    facts = _facts(directory, config, metrics, main)
    facts["model_name"] = kind["model_name"]
    facts["example"] = _example(directory)
    return str(ModelCard.from_template(data, template_path=str(template), **facts)) + "\n"


def evaluated(directory: str | Path) -> dict[str, str]:
    """What the Hub reads of how good a model is, beside its README's `model-index`.

    It is one number a dataset, the first of those that its kind is judged by, in the form of
    https://huggingface.co/docs/hub/eval-results. The Hub ranks those of datasets that are
    registered as benchmarks; the others it keeps.

    Returns:
        Files of the folder `.eval_results`, by their names; none for a model that was not measured,
        or not on data of the Hub.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    config, _, main = _read(Path(directory))
    task = BY_MODEL_TYPE[config["model_type"]]
    if not main or "task" not in task.card:
        return {}
    (key, name), *_ = task.metrics.items()
    dataset, n = task.card["datasets"][0], main["metrics"]["n"]
    notes = f"{name}; {n} samples of the {main['split']} split"
    entry = EvalResultEntry(dataset, task.card["task"], main["metrics"][key], notes=notes)
    text = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)
    return {f"{dataset.rpartition('/')[2].lower()}.yaml": text}


def _networks(config: dict[str, Any]) -> list[str]:
    """The names of the encoder's networks."""
    encoder = config.get("encoder")
    both = [encoder, encoder.get("beside")] if encoder else []
    return [network["name"] for network in both if network]


def _example(directory: Path) -> example.Example | None:
    """What the model does, once it is known how well."""
    return example.draw(directory) if _read(directory)[2] else None


def _read(directory: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]:
    """The config, the metrics, and the result among them that the model is judged by."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    judged_by = BY_MODEL_TYPE[config["model_type"]].key
    return config, metrics, metrics.setdefault("results", {}).get(judged_by)


def _facts(
    directory: Path, config: dict[str, Any], metrics: dict[str, Any], main: dict[str, Any] | None
) -> dict[str, Any]:
    """What the templates name."""
    weights = directory / "model.safetensors"
    with safe_open(weights, framework="np") as tensors:
        sizes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118  # no dict
    count = sum(math.prod(shape) for shape in sizes)
    results = {n: r for n, r in metrics["results"].items() if not n.startswith(ABLATION)}
    encoder = config.get("encoder", {"image_size": 0, "stride": 1})
    side = encoder["image_size"] // encoder["stride"]
    columns = BY_MODEL_TYPE[config["model_type"]].columns
    blind = results.get("blind", {}).get("metrics", {})
    return {
        "config": config,
        "training": metrics["training"],
        "lineage": (runs := lineage(metrics["training"])),
        "cpu_hours": round(sum(run["cpu_hours"] for run in runs), 2),
        "results": results,
        "ablation": _ablation(metrics["results"], columns),
        "verdicts": _verdicts(metrics["results"]),
        "main": main,
        "labels": {name: name for name in results} | LABELS,
        "columns": columns,
        "beaten": [k for k in columns[1:4] if main and blind.get(k, 0) > main["metrics"][k]],
        "grid": f"{side} x {side}",
        "networks": _networks(config),
        "parameters": f"{count / 1e6:.1f}",
        "megabytes": f"{weights.stat().st_size / 1e6:.1f}",
        "folder": directory.name,
        **({"n": main["metrics"]["n"], **main} if main else {}),
    }


def _ablation(results: dict[str, Any], columns: tuple[str, ...]) -> dict[str, list[str]]:
    """The cells of each variant; of several seeds, the mean and the standard deviation."""
    return {
        variant: [_spread([each[key] for each in found if key in each]) for key in columns]
        for variant, found in _variants(results).items()
    }


def _variants(results: dict[str, Any]) -> dict[str, list[dict[str, float]]]:
    """What was measured of each variant, a seed after the other."""
    groups: dict[str, list[dict[str, float]]] = {}
    for name, result in results.items():
        if name.startswith(ABLATION):
            variant = name.removeprefix(ABLATION).partition(", seed ")[0]
            groups.setdefault(variant, []).append(result["metrics"])
    return groups


def _verdicts(results: dict[str, Any]) -> list[str]:
    """Whether parts help: a difference counts that is more than twice its standard error."""
    found = _variants(results)
    lines = []
    for names, (subject, words) in CONTRASTS.items():
        ours, theirs = ([m["all"] for m in found.get(name, ())] for name in names)
        if min(len(ours), len(theirs)) < 2:
            continue
        gain = statistics.mean(ours) - statistics.mean(theirs)
        error = math.sqrt(sum(statistics.variance(v) / len(v) for v in (ours, theirs)))
        verdict = "beats" if gain > 0 else "loses to"
        if abs(gain) <= 2 * error:
            verdict = "cannot be told from"
        lines.append(
            f"- {subject} {verdict} {words}: {gain:+.2f} points, standard error {error:.2f}."
        )
    return lines


def _spread(values: list[float]) -> str:
    if len(values) < 2:
        return str(values[0]) if values else ""
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def main() -> None:
    """Write the card into its folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    write(directory)
    print(f"wrote {directory / CARD}")


if __name__ == "__main__":
    main()
