"""The linear part of a model of feelings: a linear support vector machine a label.

It is fitted by itself, on words and pairs of words weighed by how rare they are (Wang and Manning,
"Baselines and Bigrams", 2012), after the rest has learnt. Learnt together by Adam, the linear part
overfits before the rest has begun; each with a regularisation of its own, they err differently,
and their sum is better than both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.text_set import TextSet
from training.tasks.emoji import guesses
from vqa.metrics.functional.labels import macro_f1
from vqa.models import EmojiModel
from vqa.preprocessing.tweet_tokenizer import Token, ngrams

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SCALE = 8.0  # about the weight of a pair; the machines' C is meant for values of about 1
SHARES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24])  # of the linear part in the sum


def add_linear(
    model: EmojiModel, learnt: TextSet, validation: TextSet, *, c: float, min_count: int
) -> EmojiModel:
    """Fit the linear part, and add as much of it as makes the best sum on validation.

    Args:
        model: trained, without a linear part.
        learnt: what it learnt from.
        validation: of some of its heads; the others get the mean share of those.
        c: of the machines: the larger, the less they are regularised.
        min_count: texts that a word or a pair of words must be in.

    Returns:
        The same with a linear part; `model` itself if no word is in so many texts.
    """
    counts = Counter(chain(*(set(_hashes(t)) for texts in learnt.tokens.values() for t in texts)))
    known = sorted(hashed for hashed, count in counts.items() if count >= min_count)
    if not known:
        return model
    config = replace(model.config, num_ngrams=len(known))
    whole = EmojiModel(config, model.words, model.labels)
    whole.load_state_dict(model.state_dict(), strict=False)
    whole.known.copy_(torch.tensor(known))
    idf = np.log((1 + sum(map(len, learnt.tokens.values()))) / (1 + _of(counts, known))) + 1
    for head in learnt.tokens:
        _fit(whole, head, learnt, idf / SCALE, c)
    _share(whole.eval(), model.eval(), validation)
    return whole


def _hashes(tokens: Sequence[Token]) -> list[int]:
    return list(chain(*ngrams([token.spelling for token in tokens])))


def _of(counts: Counter[int], known: Sequence[int]) -> NDArray[np.float64]:
    return np.array([counts[hashed] for hashed in known], float)


def _fit(
    model: EmojiModel, head: str, learnt: TextSet, weights: NDArray[np.float64], c: float
) -> None:
    """Fit a head's machines, and write them into the table and the head's bias."""
    from scipy.sparse import diags
    from sklearn.svm import LinearSVC

    marks = (learnt.targets[head] > 0).numpy()
    features = _counted(model, learnt.tokens[head]) @ diags(weights)
    rare = 1 / np.sqrt(marks.mean(0).clip(1e-4))
    rare /= (rare * marks).sum(1).mean()
    columns = _columns(model, head)
    with torch.no_grad():
        for label, weight in enumerate(rare):
            if len(np.unique(marks[:, label])) < 2:
                continue
            rarer = {"class_weight": {1: weight}, "random_state": learnt.seed}
            machine = LinearSVC(C=c, max_iter=10_000, **rarer)
            machine.fit(features, marks[:, label])
            coefficients = torch.from_numpy(machine.coef_[0] * weights)
            model.wide.weight[1:, columns.start + label] = coefficients.float()
            _bias(model, head)[label] += float(machine.intercept_[0])


def _counted(model: EmojiModel, texts: Sequence[Sequence[Token]]) -> csr_matrix:
    """How often each text has each known n-gram, by the root of its length (texts, n-grams)."""
    from scipy.sparse import csr_matrix

    hashed = [np.array(_hashes(tokens), np.int64) for tokens in texts]
    flat = np.concatenate([*hashed, np.zeros(0, np.int64)])
    known = model.known.numpy()
    found = np.searchsorted(known, flat).clip(max=len(known) - 1)
    rows = np.repeat(np.arange(len(texts)), [len(each) for each in hashed])
    lengths = np.array([max(1, len(tokens)) for tokens in texts])
    values = (known[found] == flat) / np.sqrt(lengths[rows])
    return csr_matrix((values, (rows, found)), shape=(len(texts), len(known)))


def _bias(model: EmojiModel, head: str) -> Tensor:
    linear = model.heads[head]
    assert isinstance(linear, nn.Linear)
    return linear.bias


def _columns(model: EmojiModel, head: str) -> slice:
    sizes = model.config.heads
    start = sum(list(sizes.values())[: list(sizes).index(head)])
    return slice(start, start + sizes[head])


@torch.no_grad()
def _share(whole: EmojiModel, deep: EmojiModel, validation: TextSet) -> None:
    """Scale each head's machines by the share that gives the best macro-F1 on validation."""
    shares = {}
    for head in validation.tokens:
        alone, targets = guesses(deep, validation, head)
        truth = (targets > 0).numpy()
        added = guesses(whole, validation, head)[0] - alone
        scores = [macro_f1((alone + s * added).argmax(1).tolist(), truth) for s in SHARES]
        shares[head] = float(SHARES[int(np.argmax(scores))])
        print(f"{head}: alone {scores[0]:.4f}, with {shares[head]} of it {max(scores):.4f}")
    other = float(np.mean(list(shares.values())))
    for head in whole.config.heads:
        share = shares.get(head, other)
        whole.wide.weight[:, _columns(whole, head)] *= share
        bias, before = _bias(whole, head), _bias(deep, head)
        bias.copy_(before + share * (bias - before))
