"""Does "not" matter? Forty sentences of ours, each beside its negation.

    python -m training.negations --model model_cards/emoji

Records under `results` of the model's metrics.json, a head each, how many of the pairs get another
label, and of the four emotions how many turn from a good one to a bad one or back.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from training.core.provenance import provenance
from training.score import BadMetrics, add_result
from vqa import checkpoints
from vqa.models import EmojiModel
from vqa.pipelines.emoji import EmojiPipeline

PAIRS = (
    ("I am happy", "I am not happy at all"),
    ("I love this song", "I don't love this song"),
    ("This is a good day", "This is not a good day"),
    ("I feel great today", "I don't feel great today"),
    ("The food was delicious", "The food was not delicious"),
    ("She is excited about the trip", "She isn't excited about the trip"),
    ("We had fun at the party", "We had no fun at the party"),
    ("I am proud of my team", "I am not proud of my team"),
    ("It was a beautiful wedding", "It was not a beautiful wedding"),
    ("I trust him", "I don't trust him"),
    ("I am looking forward to Monday", "I am not looking forward to Monday"),
    ("This movie is funny", "This movie isn't funny"),
    ("They were kind to me", "They were never kind to me"),
    ("I can smile again", "I can't smile again"),
    ("Life is wonderful", "Life is not wonderful"),
    ("I believe everything will be fine", "I don't believe everything will be fine"),
    ("My friends make me laugh", "My friends never make me laugh"),
    ("I am glad you came", "I am not glad you came"),
    ("We won the game", "We didn't win the game"),
    ("I enjoy my new job", "I don't enjoy my new job"),
    ("I am sad", "I am not sad at all"),
    ("I am angry with you", "I am not angry with you"),
    ("This makes me cry", "This doesn't make me cry"),
    ("I hate mornings", "I don't hate mornings"),
    ("I feel lonely tonight", "I don't feel lonely tonight"),
    ("The service was terrible", "The service was not terrible"),
    ("I am afraid of tomorrow", "I am not afraid of tomorrow"),
    ("He was rude to us", "He was never rude to us"),
    ("It hurts", "It doesn't hurt"),
    ("I am disappointed", "I am not disappointed"),
    ("She is furious about it", "She isn't furious about it"),
    ("I worry about the future", "I don't worry about the future"),
    ("That was a bad idea", "That was not a bad idea"),
    ("I lost all hope", "I have not lost hope"),
    ("You ruined my day", "You didn't ruin my day"),
    ("I am depressed these days", "I am not depressed these days"),
    ("We were bored to death", "We were never bored"),
    ("This city is ugly", "This city is not ugly"),
    ("I regret my choice", "I don't regret my choice"),
    ("I am offended by this", "I am not offended by this"),
)
GOOD = {"joy", "optimism"}  # of the four emotions; the others are anger and sadness


def measure(emoji_pipeline: EmojiPipeline, head: str) -> dict[str, float | int]:
    """How many of the pairs are felt otherwise.

    Args:
        feeler: reads them.
        head: which set of labels.

    Returns:
        Percentages: `changed`, another likeliest label; of the emotions besides `turned`, a good
        one became a bad one or the other way; and `n`.
    """
    plain, negated = (
        [found.label for found in emoji_pipeline.feel_batch([pair[side] for pair in PAIRS], head)]
        for side in (0, 1)
    )
    both = list(zip(plain, negated, strict=True))
    changed = sum(one != other for one, other in both)
    found: dict[str, float | int] = {"changed": 100 * changed / len(PAIRS)}
    if set(emoji_pipeline.model.labels[head]) > GOOD and len(
        emoji_pipeline.model.labels[head]
    ) == 2 * len(GOOD):
        turned = sum((one in GOOD) != (other in GOOD) for one, other in both)
        found["turned"] = 100 * turned / len(PAIRS)
    return found | {"n": len(PAIRS)}


def main() -> None:
    """Measure all heads, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=Path, help="folder of the checkpoint")
    folder = parser.parse_args().model
    try:
        emoji_pipeline = EmojiPipeline(checkpoints.load_as(EmojiModel, folder))
        for head in emoji_pipeline.heads:
            metrics: dict[str, Any] = measure(emoji_pipeline, head)
            print(head, metrics)
            entry = {"dataset": "our own pairs", "split": "negations", **provenance()}
            add_result(folder / "metrics.json", f"negations, {head}", entry | {"metrics": metrics})
    except (checkpoints.BadCheckpoint, BadMetrics, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
