"""How a model was trained, in words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from vqa import checkpoints


def lineage(training: dict[str, Any]) -> list[dict[str, Any]]:
    """The trainings that followed each other, the first one first, each with its `recipe`."""
    found: list[dict[str, Any]] = []
    for before in (training.get("started_from"), *training.get("averaged_with", ())):
        found += [run for run in lineage(before) if run not in found] if before else []
    return [*found, training | {"recipe": _recipe(training["config"])}]


def _recipe(config: dict[str, Any]) -> str:
    """A training in words."""
    if "models" in config:
        before, *after = (Path(name).name for name in config["models"])
        share, others = config["weight"], " and ".join(after)
        mean = "the mean of " if len(after) > 1 else ""
        return f"Weights averaged: {1 - share:g} of {before}, {share:g} of {mean}{others}."
    if "word_dropout" in config:
        return _texts(config)
    if "boxes" in config:
        return _objects(config)
    gaze, captions = "kl" in config, "critical_epochs" in config
    part = "decoder" if gaze or captions else "head"
    if config.get("only_backward"):
        part = "LSTM backward in time alone"
    if not (stages := _stages(config, part)):
        return "The temperature alone, fitted anew on the validation split."
    named = Counter((config["data"], *filter(None, config["also"].split(","))))
    folders = [Path(f).name + (f" ({n} times)" if n > 1 else "") for f, n in named.items()]
    splits = (
        f"{config['train_splits'].replace(',', ' and ')} of " if gaze else "the train split of "
    )
    rest = (
        f"{config['batch_size']} pictures a step, {_loss(config)}, "
        f"averaged weights (decay {config['ema']:g}), on {splits}" + " and of ".join(folders)
    )
    if told := config.get("captions"):
        rest += " and the captions of " + " and ".join(Path(f).name for f in told.split(","))
    for name in () if config.get("start") else (config["encoder"], config.get("beside", "")):
        if name and (checkpoints.SHIPPED / name).is_dir():
            rest += f"; the encoder was that of [{name}](../{name}/README.md)"
    if (views := config.get("views", 1)) > 1:
        rest += f"; {views} grids a picture, all but one of it mirrored and cropped"
    asked = config.get("head_epochs") or config["tune_epochs"]
    if (weights := config.get("more")) and asked:
        rest += f"; further questions, by their source with the weight of each: {weights}"
    if config.get("object_weight"):
        rest += (
            f"; an auxiliary loss on the objects in a picture (weight {config['object_weight']:g})"
        )
    return ", then ".join(stages) + f", {rest}."


def _stages(config: dict[str, Any], part: str) -> list[str]:
    """What learnt for how long, in order."""
    stages = []
    if config.get("concept_epochs"):
        stages.append(
            f"{config['concept_epochs']} epochs of the detector of concepts on what captions name "
            f"and which objects there are (binary cross-entropy, learning rate "
            f"{config['head_lr']:g})"
        )
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
    if config.get("own_epochs"):
        stages.append(
            f"{config['own_epochs']} epochs of the {part} without further questions, on the frozen "
            f"encoder's grids (learning rate {config['own_lr']:g})"
        )
    if config.get("critical_epochs"):
        stages.append(
            f"{config['critical_epochs']} epochs of self-critical training on CIDEr "
            f"({config['critical_samples']} samples a picture at temperature "
            f"{config.get('critical_temperature', 1):g}, learning rate {config['critical_lr']:g})"
        )
    return stages


def _texts(config: dict[str, Any]) -> str:
    """How an emoji model was trained, in one sentence."""
    sets = " and ".join(config["data"].replace("=", " of ").split(","))
    linear = (
        "; then a linear part, fitted by support vector machines (C "
        f"{config['linear_c']:g}) on words and pairs of words of "
        f"{config['linear_min_count']} texts or more, was added"
        if config.get("linear_c")
        else ""
    )
    return (
        f"{config['epochs']} epochs (AdamW, learning rate {config['lr']:g}, "
        f"{config['batch_size']} texts a step), cross-entropy weighed by the square root of "
        f"how rare a label is (label smoothing {config['smoothing']:g}), words dropped at "
        f"{config['word_dropout']:g}, averaged weights (decay {config['ema']:g}), on the train "
        f"splits of {sets}; a set's share is like its size to the power {config['power']:g}"
        f"{linear}."
    )


def _objects(config: dict[str, Any]) -> str:
    """How an object model was trained, in one sentence."""
    frozen = config["freeze_through"]
    still = f", its layers up to stride {frozen} frozen" if frozen else ""
    folders = [Path(name).stem for name in (config["data"], *config["also"].split(",")) if name]
    return (
        f"{config['tune_epochs']} epochs end to end from {Path(config['encoder']).name} (AdamW, "
        f"head {config['tune_lr']:g}, encoder {config['encoder_lr']:g}{still}), "
        f"{config['batch_size']} pictures a step, mirrored, cropped and tinted; focal loss of "
        f"centres ({config['centres']:g}), 1 - GIoU of boxes ({config['sides']:g}) and binary "
        f"cross-entropy of the words of captions ({config['concepts']:g}); averaged weights (decay "
        f"{config['ema']:g}), on the training pictures of {', '.join(folders)} outside the fold "
        "that is kept for choosing."
    )


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
