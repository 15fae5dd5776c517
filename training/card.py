"""Render a model's card from its template, its config and its metrics.json.

    python -m training.card model_cards/vqa

No number in a card is typed: a card that differs from what this writes fails a test.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from safetensors import safe_open

TEMPLATES = Path(__file__).parent / "cards"
LABELS = {"answer": "**this model**", "blind": "question only"}
COLUMNS = ("all", "yes/no", "number", "other", "not yes/no", "calibration_error")


def render(directory: str | Path) -> str:
    """The card of a checkpoint.

    Args:
        directory: holds config.json, metrics.json and model.safetensors.

    Raises:
        KeyError: if metrics.json lacks the training or a result that the card needs.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    directory = Path(directory)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    main = metrics["results"]["answer"]
    data = ModelCardData(
        language="en",
        license="apache-2.0",
        library_name="seewhy",
        pipeline_tag="visual-question-answering",
        tags=["explainability", "attention", "lstm"],
        datasets=["lmms-lab/VQAv2"],
        base_model=f"google/{config['encoder']['name']}",
        model_name="SeeWhy answerer",
        eval_results=[
            EvalResult(
                task_type="visual-question-answering",
                dataset_type=main["dataset"],
                dataset_name=main["dataset"],
                dataset_split=main["split"],
                metric_type="vqa_accuracy",
                metric_name=f"VQA accuracy, {key}",
                metric_value=main["metrics"][key],
            )
            for key in ("all", "not yes/no")
        ],
    )
    template = TEMPLATES / f"{config['model_type']}.md"
    facts = _facts(directory, config, metrics)
    return str(ModelCard.from_template(data, template_path=str(template), **facts)) + "\n"


def _facts(directory: Path, config: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    """What the template names."""
    weights = directory / "model.safetensors"
    with safe_open(weights, framework="np") as tensors:
        sizes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118  # no dict
    count = sum(math.prod(shape) for shape in sizes)
    results = metrics["results"]
    side = config["encoder"]["image_size"] // config["encoder"]["stride"]
    return {
        "config": config,
        "training": metrics["training"],
        "recipe": _recipe(metrics["training"]["config"]),
        "results": results,
        "labels": LABELS,
        "columns": COLUMNS,
        "beaten": [
            kind
            for kind in COLUMNS[1:4]
            if _score(results, "blind", kind) > _score(results, "answer", kind)
        ],
        "grid": f"{side} x {side}",
        "parameters": f"{count / 1e6:.1f}",
        "megabytes": f"{weights.stat().st_size / 1e6:.1f}",
        **{name: results["answer"][name] for name in ("dataset", "split")},
        "n": results["answer"]["metrics"]["n"],
    }


def _score(results: dict[str, Any], name: str, kind: str) -> float:
    return float(results[name]["metrics"][kind])


def _recipe(config: dict[str, Any]) -> str:
    """The training in words."""
    head = (
        f"{config['head_epochs']} epochs of the head on the frozen encoder's grids "
        f"(AdamW, learning rate {config['head_lr']:g})"
    )
    data = "the train split of " + " and of ".join(
        Path(folder).name for folder in (config["data"], *filter(None, config["also"].split(",")))
    )
    tune = (
        f"then {config['tune_epochs']} epochs end to end (head {config['tune_lr']:g}, encoder "
        f"{config['encoder_lr']:g}, mirrored and cropped pictures)"
    )
    rest = (
        f"{config['batch_size']} pictures a step, soft cross-entropy on graded answers, "
        f"averaged weights (decay {config['ema']:g}), on {data}"
    )
    return ", ".join([head, *([tune] if config["tune_epochs"] else []), rest]) + "."


def main() -> None:
    """Write the card into its folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    (directory / "README.md").write_text(render(directory), encoding="utf-8")
    print(f"wrote {directory / 'README.md'}")


if __name__ == "__main__":
    main()
