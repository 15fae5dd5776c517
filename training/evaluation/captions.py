"""Score captions: `python -m training.score caption` calls this."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from training.evaluation.predictions import Metrics, read_lines, say_missing
from training.pseudo_boxes import OBJECTS
from vqa.batch.runner import BadPredictions
from vqa.data.image_dataset import ImageDataset
from vqa.errors import BadData
from vqa.metrics.functional.captions import caption_scores
from vqa.models.object_words import named, word_index
from vqa.preprocessing.ptb_tokenizer import ptb_tokenize

CAPTION_FIELDS = {"image_id": (int, str), "caption": str}


def score_captions(rows: ImageDataset, predictions: Path) -> Metrics:
    """Print how near captions come to those of people, and how varied they are.

    Args:
        rows: the pictures and their captions; those without any are left out.
        predictions: a file of `vqa.batch caption`.

    Returns:
        BLEU-1 to 4, ROUGE-L, CIDEr (that of the COCO evaluation) and plain CIDEr, times 100;
        `chair_i`, the percentage of the things named that are not there, of `chair_i`;
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
        "chair_i": round(100 * chair_i(texts, list(references.values())), 2),
        "words": len({word for words in captions for word in words}),
        "most_frequent": round(100 * most / len(texts), 2),
        "mean_words": round(sum(map(len, captions)) / len(captions), 2),
        "n": len(texts),
        "n_missing": len(missing),
    }


def chair_i(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """How much captions say that is not there, of the things that they name.

    CHAIR-i of Rohrbach et al., "Object Hallucination in Image Captioning", EMNLP 2018, with the 80
    classes of COCO and their other words. Only what people wrote tells here what is there: a thing
    that nobody mentions counts as made up, so that the figure is higher than with COCO's labels.

    Args:
        captions: one a picture.
        references: what people wrote of each picture.

    Returns:
        The share, 0 to 1, of the classes named in captions, each counted once a caption; 0 where
        none is named.
    """
    index, mentioned, made_up = word_index(OBJECTS), 0, 0
    for caption, texts in zip(captions, references, strict=True):
        there = {label for text in texts for label in named(text, index)}
        labels = set(named(caption, index))
        mentioned += len(labels)
        made_up += len(labels - there)
    return made_up / mentioned if mentioned else 0.0
