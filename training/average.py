r"""Average the weights of a model with those of others that were trained on from it.

    python -m training.average runs/before runs/after --weight 0.25 --output_dir runs/between

What lies between the two on the way often keeps most of what was gained and of what would have been
lost: Wortsman et al., "Robust fine-tuning of zero-shot models", 2022. Self-critical training, for
one, gains CIDEr and loses rare words. Of several that were trained on, with other rates for one,
the mean is taken first: the same, "Model soups", 2022.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.core.config import BadSettings
from training.core.provenance import plain_paths, provenance, record
from vqa import checkpoints


def average(before: Path, after: Sequence[Path], weight: float, output_dir: Path) -> Path:
    """Save the average of checkpoints.

    Args:
        before: a checkpoint.
        after: one or more that were trained on from it, of the same shape.
        weight: of their mean, from 0 to 1.
        output_dir: where the average goes.

    Returns:
        `output_dir`.

    Raises:
        BadCheckpoint: if one cannot be loaded, or does not tell how it was trained.
        BadSettings: if they are not of one kind and shape, or the weight is out of range.
    """
    if not 0 <= weight <= 1:
        raise BadSettings(f"weight must be between 0 and 1, it is {weight}")
    found: Any = checkpoints.load(before)
    first = found.state_dict()
    others = [_like(found, before, folder).state_dict() for folder in after]
    found.load_state_dict(
        {name: between(t, [other[name] for other in others], weight) for name, t in first.items()}
    )
    made, *more = map(_training, after)
    settings = {
        "models": [str(folder) for folder in (before, *after)],
        "weight": weight,
        "seed": made["config"]["seed"],
    }
    checkpoints.save(found, output_dir)
    entry = {
        **provenance(),
        "cpu_hours": 0.0,
        "config": plain_paths(settings),
        "started_from": made,
        **({"averaged_with": more} if more else {}),
    }
    record(output_dir / "metrics.json", "training", entry)
    return output_dir


def between(one: Tensor, others: Sequence[Tensor], weight: float) -> Tensor:
    """The average; of counters, which cannot have one, the last."""
    if not one.is_floating_point():
        return others[-1]
    return torch.lerp(one, torch.stack(tuple(others)).mean(dim=0), weight)


def _like(one: nn.Module, before: Path, after: Path) -> nn.Module:
    """A checkpoint with the same kind, shape and words."""
    other = checkpoints.load(after)
    shapes = [{n: t.shape for n, t in model.state_dict().items()} for model in (one, other)]
    if type(one) is not type(other) or shapes[0] != shapes[1]:
        raise BadSettings(f"{before} and {after} are not of one kind and shape")
    texts = [(folder / "vocab.json").read_bytes() for folder in (before, after)]
    if texts[0] != texts[1]:
        raise BadSettings(f"{before} and {after} do not know the same words")
    return other


def _training(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        made: dict[str, Any] = content["training"]
        made["config"]["seed"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise checkpoints.BadCheckpoint(
            f"{folder}/metrics.json does not tell how the model was trained: {error!r}"
        ) from error
    return made


def main() -> None:
    """Read the flags and average."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path, nargs="+")
    parser.add_argument("--weight", type=float, default=0.5, help="of those after, 0 to 1")
    parser.add_argument("--output_dir", type=Path, required=True)
    args = parser.parse_args()
    try:
        print(f"saved to {average(args.before, args.after, args.weight, args.output_dir)}")
    except (checkpoints.BadCheckpoint, BadSettings, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
