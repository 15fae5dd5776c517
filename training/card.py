"""Render a model's card from its template, its config and its metrics.json.

    python -m training.card model_cards/vqa

No number in a card is typed: a card that differs from what this writes fails a test.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

from safetensors import safe_open

from vqa import checkpoints
from vqa.measured import MAIN

TEMPLATES = Path(__file__).parent / "cards"
LABELS = {  # how a card names a result of metrics.json; others by their own name
    "answer": "**this model**",
    "frozen": "before its encoder learnt too",
    "blind": "question only",
    "daquar": "this model, on DAQUAR",
    "caption": "**this model, beam 3**",
    "gaze": "**this model**",
}
ABLATION = "ablation: "  # begins the names of results that a card shows in a table of their own
GATED = "gaze, gated prior"
CONTRASTS = {  # what the question of the ablation is, in words
    "no gaze": "no gaze at all",
    "gaze of other pictures, gated prior": "the gaze of other pictures",
}
COLUMNS = {
    "answerer": ("all", "yes/no", "number", "other", "not yes/no", "calibration_error"),
    "captioner": ("cider", "bleu1", "bleu4", "rouge_l", "words", "most_frequent"),
    "gaze": ("cc", "nss", "auc_judd", "sim", "kl", "auc_shuffled", "information_gain"),
    "emoji": ("macro_f1", "accuracy", "top5"),
}
CARDS: dict[str, dict[str, Any]] = {  # what the card's header says of each kind of model
    "answerer": {
        "pipeline_tag": "visual-question-answering",
        "tags": ["explainability", "attention", "lstm"],
        "datasets": ["lmms-lab/VQAv2"],
        "model_name": "SeeWhy answerer",
        "metrics": {"all": "vqa_accuracy", "not yes/no": "vqa_accuracy"},
    },
    "captioner": {
        "pipeline_tag": "image-to-text",
        "tags": ["explainability", "attention", "lstm", "image-captioning"],
        "datasets": ["jxie/flickr8k"],
        "model_name": "SeeWhy captioner",
        "metrics": {"cider": "cider", "bleu4": "bleu"},
    },
    "gaze": {
        "pipeline_tag": "image-segmentation",  # the nearest there is
        "tags": ["saliency", "gaze", "eye-tracking", "explainability"],
        "model_name": "SeeWhy gaze model",
        "metrics": {"cc": "cc", "nss": "nss", "auc_judd": "auc"},
    },
    "emoji": {
        "pipeline_tag": "text-classification",
        "tags": ["emoji", "emotion", "lstm", "explainability"],
        "datasets": ["cardiffnlp/tweet_eval", "google-research-datasets/go_emotions"],
        "model_name": "SeeWhy model of feelings",
        "metrics": {"macro_f1": "f1", "accuracy": "accuracy"},
    },
}


def render(directory: str | Path) -> str:
    """The card of a checkpoint.

    Args:
        directory: holds config.json, metrics.json and model.safetensors. Without the result that
            its kind is judged by, the card only tells how the model was made.

    Raises:
        KeyError: if metrics.json lacks the training.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    directory = Path(directory)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    kind = dict(CARDS[config["model_type"]])
    results = metrics.setdefault("results", {})
    judged_by, names = MAIN[config["model_type"]]
    main, shown = results.get(judged_by), kind.pop("metrics")
    data = ModelCardData(
        language="en",
        license="apache-2.0",
        library_name="seewhy",
        base_model=f"google/{config['encoder']['name']}" if "encoder" in config else None,
        eval_results=[
            EvalResult(
                task_type=kind["pipeline_tag"],
                dataset_type=main["dataset"],
                dataset_name=main["dataset"],
                dataset_split=main["split"],
                metric_type=metric,
                metric_name=names[key],
                metric_value=main["metrics"][key],
            )
            for key, metric in shown.items()
        ]
        if main
        else None,
        **(kind if main else {k: v for k, v in kind.items() if k != "model_name"}),
    )
    template = TEMPLATES / (f"{config['model_type']}.md" if main else "unmeasured.md")
    facts = _facts(directory, config, metrics, main)
    facts["model_name"] = kind["model_name"]
    return str(ModelCard.from_template(data, template_path=str(template), **facts)) + "\n"


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
    columns = COLUMNS[config["model_type"]]
    blind = results.get("blind", {}).get("metrics", {})
    return {
        "config": config,
        "training": metrics["training"],
        "lineage": (lineage := _lineage(metrics["training"])),
        "cpu_hours": round(sum(run["cpu_hours"] for run in lineage), 2),
        "results": results,
        "ablation": _ablation(metrics["results"], columns),
        "verdicts": _verdicts(metrics["results"]),
        "main": main,
        "labels": {name: name for name in results} | LABELS,
        "columns": columns,
        "beaten": [k for k in columns[1:4] if main and blind.get(k, 0) > main["metrics"][k]],
        "grid": f"{side} x {side}",
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
    """Whether gaze helps: a difference counts that is more than twice its standard error."""
    found = _variants(results)
    lines = []
    for other, words in CONTRASTS.items():
        ours, theirs = ([m["all"] for m in found.get(name, ())] for name in (GATED, other))
        if min(len(ours), len(theirs)) < 2:
            continue
        gain = statistics.mean(ours) - statistics.mean(theirs)
        error = math.sqrt(sum(statistics.variance(v) / len(v) for v in (ours, theirs)))
        verdict = "beats" if gain > 0 else "loses to"
        if abs(gain) <= 2 * error:
            verdict = "cannot be told from"
        lines.append(
            f"- The gated prior {verdict} {words}: {gain:+.2f} points, standard error {error:.2f}."
        )
    return lines


def _spread(values: list[float]) -> str:
    if len(values) < 2:
        return str(values[0]) if values else ""
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def _lineage(training: dict[str, Any]) -> list[dict[str, Any]]:
    """The trainings that followed each other, the first one first, each with its `recipe`."""
    before = training.get("started_from")
    return [
        *(_lineage(before) if before else []),
        training | {"recipe": _recipe(training["config"])},
    ]


def _recipe(config: dict[str, Any]) -> str:
    """A training in words."""
    if "models" in config:
        before, after = (Path(name).name for name in config["models"])
        share = config["weight"]
        return f"Weights averaged: {1 - share:g} of {before}, {share:g} of {after}."
    if "word_dropout" in config:
        sets = " and ".join(config["data"].replace("=", " of ").split(","))
        return (
            f"{config['epochs']} epochs (AdamW, learning rate {config['lr']:g}, "
            f"{config['batch_size']} texts a step), cross-entropy weighed by the square root of "
            f"how rare a label is (label smoothing {config['smoothing']:g}), words dropped at "
            f"{config['word_dropout']:g}, averaged weights (decay {config['ema']:g}), on the train "
            f"splits of {sets}; a set's share is like its size to the power {config['power']:g}."
        )
    gaze, captions = "kl" in config, "critical_epochs" in config
    part = "decoder" if gaze or captions else "head"
    if config.get("only_backward"):
        part = "LSTM backward in time alone"
    folders = (config["data"], *filter(None, config["also"].split(",")))
    splits = (
        f"{config['train_splits'].replace(',', ' and ')} of " if gaze else "the train split of "
    )
    stages = []
    if config.get("head_epochs"):
        stages.append(
            f"{config['head_epochs']} epochs of the {part} on the frozen encoder's grids "
            f"(AdamW, learning rate {config['head_lr']:g})"
        )
    if config["tune_epochs"]:
        stages.append(
            f"{config['tune_epochs']} epochs end to end ({part} {config['tune_lr']:g}, encoder "
            f"{config['encoder_lr']:g}, mirrored and cropped pictures)"
        )
    if config.get("critical_epochs"):
        stages.append(
            f"{config['critical_epochs']} epochs of self-critical training on CIDEr "
            f"({config['critical_samples']} samples a picture at temperature "
            f"{config.get('critical_temperature', 1):g}, learning rate {config['critical_lr']:g})"
        )
    rest = (
        f"{config['batch_size']} pictures a step, {_loss(config)}, "
        f"averaged weights (decay {config['ema']:g}), on {splits}"
        + " and of ".join(Path(folder).name for folder in folders)
    )
    if (checkpoints.SHIPPED / (start := config["encoder"])).is_dir() and not config.get("start"):
        rest += f"; the encoder was that of [{start}](../{start}/README.md)"
    if weights := config.get("more"):
        rest += f"; further questions, by their source with the weight of each: {weights}"
    if config.get("object_weight"):
        rest += (
            f"; an auxiliary loss on the objects in a picture (weight {config['object_weight']:g})"
        )
    return ", then ".join(stages) + f", {rest}."


def _loss(config: dict[str, Any]) -> str:
    if "kl" in config:
        terms = [f"{config[t]:g} {t.upper()}" for t in ("kl", "cc", "nss", "bce") if config[t]]
        return f"loss {' + '.join(terms)}"
    supervised = config.get("head_epochs") or config["tune_epochs"]
    if not supervised and config.get("critical_weight") == 1:
        return "the reward alone"
    if "smoothing" in config:
        return f"cross-entropy (label smoothing {config['smoothing']:g})"
    return "soft cross-entropy on graded answers"


def main() -> None:
    """Write the card into its folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    (directory / "README.md").write_text(render(directory), encoding="utf-8")
    print(f"wrote {directory / 'README.md'}")


if __name__ == "__main__":
    main()
