"""How close captions are to what people wrote: BLEU, ROUGE-L and CIDEr, as COCO reports them.

BLEU: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002.
ROUGE-L: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", ACL workshop 2004.
CIDEr, CIDEr-D: Vedantam et al., "CIDEr: Consensus-based Image Description Evaluation", CVPR 2015:

    CIDEr   = 10 mean_n mean_j  cos(c_n, r_nj)
    CIDEr-D = 10 mean_n mean_j  exp(-(l(c) - l(r_j))^2 / (2 sigma^2)) min(c_n, r_nj).r_nj
                                / (|c_n| |r_nj|)

with c_n and r_nj the tf-idf vectors of n words in a row (n = 1..4) of the caption and of its j-th
reference. What the COCO evaluation, and every paper after it, calls CIDEr is CIDEr-D. Both are
without the stemming of the paper, as in its authors' code.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

Tokens = Sequence[str]
Gram = tuple[str, ...]

MAX_NGRAM = 4  # how many words in a row are compared, at most
BETA = 1.2  # how much more ROUGE-L minds what is missing than what is too much
SIGMA = 6.0  # how many words of difference in length CIDEr-D forgives


def bleu(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> list[float]:
    """Count how many of the captions' words, and runs of words, people used too.

    It is taken over the whole corpus: counts are summed, not scores. Captions that are shorter in
    sum than the references closest in length (of two as close, the shorter) are marked down.

    Args:
        candidates: the tokens of each caption.
        references: the tokens of what people wrote, one list a caption.

    Returns:
        BLEU-1 to BLEU-4, in [0, 1].

    Raises:
        ValueError: if there is nothing to score, the lengths differ, or a caption lacks references.
    """
    _check(candidates, references)
    guesses, correct = [0] * MAX_NGRAM, [0] * MAX_NGRAM
    length = wanted = 0
    for candidate, given in zip(candidates, references, strict=True):
        length += len(candidate)
        wanted += min((abs(len(tokens) - len(candidate)), len(tokens)) for tokens in given)[1]
        for n in range(MAX_NGRAM):
            allowed: Counter[Gram] = Counter()
            for tokens in given:
                allowed |= _grams(tokens, n + 1)
            guesses[n] += max(0, len(candidate) - n)
            correct[n] += (_grams(candidate, n + 1) & allowed).total()
    # The evaluation's own guards against dividing by zero: they show in the ninth digit.
    ratio = (length + 1e-15) / (wanted + 1e-9)
    penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    precisions = [(c + 1e-15) / (g + 1e-9) for c, g in zip(correct, guesses, strict=True)]
    return [penalty * math.prod(precisions[:n]) ** (1 / n) for n in range(1, MAX_NGRAM + 1)]


def rouge_l(candidate: Tokens, references: Sequence[Tokens]) -> float:
    """Measure the longest run of words that a caption shares with what people wrote, gaps allowed.

    Args:
        candidate: the caption's tokens.
        references: the tokens of each reference; the best precision and the best recall count,
            be they of two references.

    Returns:
        The F-measure of both, in [0, 1].

    Raises:
        ValueError: if there is no reference.
    """
    _check([candidate], [references])
    # The evaluation sees one empty word in an empty text.
    said, given = candidate or [""], [tokens or [""] for tokens in references]
    shared = [_common(tokens, said) for tokens in given]
    precision = max(shared) / len(said)
    recall = max(n / len(tokens) for n, tokens in zip(shared, given, strict=True))
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


@dataclass(frozen=True, slots=True)
class _Picture:
    """What the references of one picture say."""

    # Of each run of words: (reference, count, reference, count, ...).
    counts: dict[Gram, tuple[int, ...]]
    norms: list[list[float]]  # of the tf-idf vectors, (n, references)
    lengths: list[int]


class CiderIndex:
    """The references of a corpus, ready to score captions fast: built once, asked many times.

    How telling a word is, is measured on these references alone: the fewer pictures use it, the
    more. The reward of self-critical training, and the metric, are this one class.

        index = CiderIndex([[["a", "dog"], ["the", "dog"]], [["a", "red", "car"]]])
        index.score(["a", "dog"], 0)

    Building holds every different run of one to four words of every picture in memory:
    about 3 kB a reference.
    """

    def __init__(self, references: Sequence[Sequence[Tokens]]) -> None:
        """Read a corpus.

        Args:
            references: the tokens of what people wrote, one list a picture.

        Raises:
            ValueError: if there is no picture, or one lacks references.
        """
        _check(references, references)
        seen: Counter[Gram] = Counter()
        shared: dict[Any, Any] = {}  # one tuple in memory for all that are equal
        found = [_gather(given, shared) for given in references]
        for counts in found:
            seen.update(counts.keys())
        self._unseen = math.log(len(references))
        self._idf = {gram: self._unseen - math.log(times) for gram, times in seen.items()}
        self._pictures = [
            _Picture(counts, self._norms(counts, len(given)), list(map(len, given)))
            for counts, given in zip(found, references, strict=True)
        ]

    def __len__(self) -> int:
        """Tell how many pictures there are."""
        return len(self._pictures)

    def score(self, candidate: Tokens, picture: int) -> float:
        """Give a caption's CIDEr-D, which COCO calls CIDEr.

        Args:
            candidate: the caption's tokens; none at all score 0.
            picture: which of the pictures it describes, from 0.

        Returns:
            The score, in [0, 10].

        Raises:
            IndexError: if there is no such picture.
        """
        return self._score(candidate, picture, SIGMA)

    def score_plain(self, candidate: Tokens, picture: int) -> float:
        """Give a caption's original CIDEr: nothing is clipped, and length does not matter.

        Args, Returns and Raises are those of `score`.
        """
        return self._score(candidate, picture, math.inf)

    def _norms(self, counts: dict[Gram, tuple[int, ...]], references: int) -> list[list[float]]:
        """Give the length of each reference's tf-idf vectors, (n, references)."""
        squares = [[0.0] * references for _ in range(MAX_NGRAM)]
        for gram, where in counts.items():
            for j, count in zip(where[::2], where[1::2], strict=True):
                squares[len(gram) - 1][j] += (count * self._idf[gram]) ** 2
        return [[math.sqrt(square) for square in row] for row in squares]

    def _score(self, candidate: Tokens, picture: int, sigma: float) -> float:
        if not 0 <= picture < len(self._pictures):
            raise IndexError(f"There are {len(self)} pictures, from 0, and no picture {picture}.")
        given = self._pictures[picture]
        length, clip = len(candidate), sigma < math.inf
        penalties = [math.exp(-((length - other) ** 2) / (2 * sigma**2)) for other in given.lengths]
        total = 0.0
        for n, norms in enumerate(given.norms, 1):
            square, products = 0.0, [0.0] * len(norms)
            for gram, said in _grams(candidate, n).items():
                idf = self._idf.get(gram, self._unseen)
                square += (said * idf) ** 2
                where = given.counts.get(gram, ())
                for place in range(0, len(where), 2):
                    count = where[place + 1]
                    used = min(said, count) if clip else said
                    products[where[place]] += used * count * idf * idf
            if square:
                norm = math.sqrt(square)
                total += sum(
                    product * penalty / (norm * other)
                    for product, penalty, other in zip(products, penalties, norms, strict=True)
                    if product
                )
        return 10 * total / (MAX_NGRAM * len(given.lengths))


def caption_scores(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> dict[str, float]:
    """Give every score of a set of captions, on tokens as they are.

    Args:
        candidates: the tokens of each caption.
        references: the tokens of what people wrote, one list a caption.

    Returns:
        bleu1 to bleu4 and rouge_l in [0, 1]; in [0, 10] cider, which is pycocoevalcap's, cider_d,
        which is the same number under its right name, and cider_plain, the original CIDEr.

    Raises:
        ValueError: if there is nothing to score, the lengths differ, or a caption lacks references.
    """
    _check(candidates, references)
    index = CiderIndex(references)
    cider = fmean(index.score(said, i) for i, said in enumerate(candidates))
    return {
        **{f"bleu{n}": score for n, score in enumerate(bleu(candidates, references), 1)},
        "rouge_l": fmean(map(rouge_l, candidates, references)),
        "cider": cider,
        "cider_d": cider,
        "cider_plain": fmean(index.score_plain(said, i) for i, said in enumerate(candidates)),
    }


def _check(candidates: Sequence[object], references: Sequence[Sequence[Tokens]]) -> None:
    """Refuse what cannot be scored, by name."""
    if len(candidates) != len(references):
        raise ValueError(
            f"Give each of the {len(candidates)} captions its references, "
            f"not {len(references)} lists of them."
        )
    if not candidates:
        raise ValueError("There is no caption to score: add some before compute.")
    for place, (said, given) in enumerate(zip(candidates, references, strict=True)):
        if not given:
            raise ValueError(f"Caption {place} has no reference to compare it with: give it one.")
        for tokens in (said, given, *given):
            if isinstance(tokens, str):
                raise ValueError(f"Cut caption {place} and its references into tokens: {tokens!r}.")


def _grams(tokens: Tokens, n: int) -> Counter[Gram]:
    """Count the runs of `n` words."""
    return Counter(zip(*(tokens[start:] for start in range(n)), strict=False))


def _gather(given: Sequence[Tokens], shared: dict[Any, Any]) -> dict[Gram, tuple[int, ...]]:
    """Give, of each run of words, which references have it and how often."""
    counts: dict[Gram, tuple[int, ...]] = {}
    for j, tokens in enumerate(given):
        for n in range(1, MAX_NGRAM + 1):
            for gram, count in _grams(tokens, n).items():
                counts[gram] = (*counts.get(gram, ()), j, count)
    return {shared.setdefault(k, k): shared.setdefault(v, v) for k, v in counts.items()}


def _common(one: Tokens, other: Tokens) -> int:
    """Give the length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        corner = 0  # of the row before
        for place, match in enumerate(other, 1):
            above = row[place]
            row[place] = corner + 1 if word == match else max(above, row[place - 1])
            corner = above
    return row[-1]
