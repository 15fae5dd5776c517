"""Score captions: `python -m training.score caption` calls this."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from training.evaluation.predictions import Metrics, read_lines, say_missing
from vqa.batch.runner import BadPredictions
from vqa.data.image_dataset import ImageDataset
from vqa.errors import BadData
from vqa.metrics.functional.captions import caption_scores
from vqa.preprocessing.ptb_tokenizer import ptb_tokenize

CAPTION_FIELDS = {"image_id": (int, str), "caption": str}


def score_captions(rows: ImageDataset, predictions: Path) -> Metrics:
    """Print how near captions come to those of people, and how varied they are.

    Args:
        rows: the pictures and their captions; those without any are left out.
        predictions: a file of `vqa.batch caption`.

    Returns:
        BLEU-1 to 4, ROUGE-L, CIDEr (that of the COCO evaluation) and plain CIDEr, times 100;
        `words` (how many different ones), `most_frequent` (percentage of the captions that are the
        one used most), `mean_words`, `n` and `n_missing`.

    Raises:
        BadPredictions: if the file is no such file, or is about other pictures.
        BadData: if no picture has a caption to compare with.
    """
    said = {line["image_id"]: line["caption"] for line in read_lines(predictions, CAPTION_FIELDS)}
    references: dict[int | str, list[str]] = {}
    for row in rows:  # a picture may have a row a caption
        if row.captions:
            references.setdefault(row.image_id, []).extend(row.captions)
    if not references:
        raise BadData("these data have no caption to compare with")
    if not said.keys() & references.keys():
        raise BadPredictions(f"{predictions}: none of its lines is about a picture of these data")
    missing = [f"picture {image_id}" for image_id in references if image_id not in said]
    say_missing(missing)
    texts = [said.get(image_id, "") for image_id in references]
    captions = [ptb_tokenize(text) for text in texts]
    people = [[ptb_tokenize(text) for text in given] for given in references.values()]
    scores = {name: round(100 * s, 2) for name, s in caption_scores(captions, people).items()}
    scores.pop("cider_d")  # `cider` by its other name
    (_, most), *_ = Counter(texts).most_common(1)
    return scores | {
        "words": len({word for words in captions for word in words}),
        "most_frequent": round(100 * most / len(texts), 2),
        "mean_words": round(sum(map(len, captions)) / len(captions), 2),
        "n": len(texts),
        "n_missing": len(missing),
    }
