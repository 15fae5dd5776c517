"""The probability of a caption's words under which it is told with a warning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from training.data.caption_set import Corpus
from training.data.decoding import decode
from vqa.metrics.functional.captions import CiderIndex
from vqa.models import Captioner
from vqa.pipelines.captioning import CaptionPipeline

PRECISION = 1 / 2  # of the captions that get a warning, at least this share is wrong
BATCH = 32  # pictures that are described in one pass
MIN_CAPTIONS = 10  # a threshold that fewer captions lie under is chance


def fit_doubt(model: Captioner, corpus: Corpus) -> None:
    """Set a captioner's `unsure_below` by pictures that it has not learnt from.

    A caption counts as wrong if its CIDEr-D is below half of the captions' mean.

    Args:
        model: changed in place, and put into eval mode.
        corpus: the pictures and what people say of them.
    """
    pipeline, references = CaptionPipeline(model), CiderIndex(corpus.captions)
    certainties, scores = [], []
    for start in range(0, len(corpus.rows), BATCH):
        places = range(start, min(start + BATCH, len(corpus.rows)))
        pictures = {place: decode(corpus.rows[place], 2) for place in places}
        decoded = {place: picture for place, picture in pictures.items() if picture is not None}
        captions = pipeline.caption_batch(list(decoded.values()))
        certainties += [fmean(caption.word_probs or (0.0,)) for caption in captions]
        scores += [
            references.score(caption.words, place)
            for place, caption in zip(decoded, captions, strict=True)
        ]
    limit = fmean(scores) / 2
    wrong = [score < limit for score in scores]
    model.config = replace(model.config, unsure_below=doubt_threshold(certainties, wrong))


def doubt_threshold(certainties: Sequence[float], wrong: Sequence[bool]) -> float:
    """The highest certainty below which at least `PRECISION` of the captions are wrong.

    Args:
        certainties: mean word probability of each caption, 0 to 1.
        wrong: whether each is wrong.

    Returns:
        The threshold; 0, which no caption is below, where none is good enough.
    """
    ranked = sorted(zip(certainties, wrong, strict=True))
    best, mistakes = 0.0, 0
    for count, (certainty, is_wrong) in enumerate(ranked):
        # The captions before this one are those below a threshold of its certainty.
        is_new = count > 0 and certainty > ranked[count - 1][0]
        if is_new and count >= MIN_CAPTIONS and mistakes >= PRECISION * count:
            best = certainty
        mistakes += is_wrong
    return best
