"""What the Models tab says of a model: what it does, its size, its numbers and its card."""

from __future__ import annotations

import re
from typing import Any

from vqa.checkpoints.layout import SHIPPED, WEIGHTS
from vqa.checkpoints.results import measured
from vqa.pipelines.model_set import LoadedModel

CALLED = {"lstm": "LSTM", "bilstm": "BiLSTM", "vilt": "ViLT", "blip": "BLIP"}
MAX_CARD_CHARACTERS = 50_000  # characters of a card
_FRONT = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)  # for the Hub
_RELATIVE = re.compile(r"!?\[([^\]]*)\]\((?!https://)[^)]*\)")  # leads nowhere from the page


def entry(part: LoadedModel) -> dict[str, Any]:
    """A model in the list, in words and numbers.

    The name may be anybody's, and so may what a metrics.json says.
    """
    found = measured(part.folder) if part.folder else None
    return {
        "does": " · ".join(filter(None, (part.task.does, architecture(part)))),
        "name": part.title,
        "size": f"{millions(part):.1f} M parameters, {megabytes(part):.1f} MB",
        "numbers": [
            {"value": f"{value:.4g}", "name": name}
            for name, value in (found.numbers.items() if found else ())
        ],
        "where": f"{found.split} split of {found.dataset}" if found else "No numbers came with it",
    }


def architecture(part: LoadedModel) -> str:
    """What kind of network it is, where the page knows several; else empty."""
    config: Any = part.network.config
    return CALLED.get(getattr(config, "decoder", getattr(config, "model_type", "")), "")


def millions(part: LoadedModel) -> float:
    """Its parameters in millions, each once."""
    tensors = part.network.state_dict().values()
    return float(sum({tensor.data_ptr(): tensor.numel() for tensor in tensors}.values())) / 1e6


def megabytes(part: LoadedModel) -> float:
    """The size of its weights as they are stored; in memory if they are not."""
    if part.folder:
        return (part.folder / WEIGHTS).stat().st_size / 1e6
    return float(sum(tensor.nbytes for tensor in part.network.state_dict().values())) / 1e6


def card(part: LoadedModel) -> tuple[str, str]:
    """Its card: as Markdown if it is one of ours, else as text, which nobody may render.

    Returns:
        Markdown and text; one of them is empty.
    """
    path = part.folder and part.folder / "README.md"
    if not path or not path.is_file():
        return "It comes without a card.", ""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.parent.parent == SHIPPED:
        return _RELATIVE.sub(r"\1", _FRONT.sub("", text)), ""
    cut = f"\n\n(The first {MAX_CARD_CHARACTERS:,} of {len(text):,} characters.)"
    return "", text if len(text) <= MAX_CARD_CHARACTERS else text[:MAX_CARD_CHARACTERS] + cut
