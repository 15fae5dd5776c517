"""A model of feelings behind plain calls: one sentence or thousands, and its scores to explain."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from vqa.emoji_labels import emoji_of
from vqa.errors import BadText
from vqa.models import EmojiModel, Feeling
from vqa.preprocessing.tweet_tokenizer import MAX_CHARACTERS, Token, tokenize
from vqa.scorers.native import EmojiScorer

_SORTED = 4096  # texts that are sorted by length together, so that batches have little padding


class EmojiPipeline:
    """Says how texts feel; safe to share between threads.

    Args:
        model: it is put into eval mode, and learns no more.
    """

    def __init__(self, model: EmojiModel) -> None:
        self.model = model.eval().requires_grad_(False)
        self.lock = threading.RLock()

    @property
    def heads(self) -> tuple[str, ...]:
        """The sets of labels, by name."""
        return tuple(self.model.config.heads)

    def emoji(self, text: str, head: str | None = None, *, k: int = 5) -> Feeling:
        """Say how one text feels.

        Args:
            text: in English; anything else is guessed at by its characters.
            head: which set of labels; None for the first.
            k: how many of the likeliest labels to return.

        Raises:
            BadText: if it is longer than `MAX_CHARACTERS`.
            ValueError: if there is no such head.
        """
        if len(text) > MAX_CHARACTERS:
            raise BadText(
                f"The text has {len(text):,} characters and the limit is {MAX_CHARACTERS:,}: "
                "shorten it."
            )
        return self.feel_batch([text], head, k=k)[0]

    def feel_batch(
        self,
        texts: Sequence[str],
        head: str | None = None,
        *,
        k: int = 5,
        batch_size: int = 256,
    ) -> list[Feeling]:
        """Say how many texts feel, in passes over texts of about the same length.

        Args:
            texts: of any length; what is beyond `MAX_CHARACTERS` is not read.
            head: which set of labels; None for the first.
            k: how many of the likeliest labels to return.
            batch_size: texts in a pass.

        Returns:
            As many feelings, in the texts' order.

        Raises:
            ValueError: if there is no such head.
        """
        head = self.check_head(head)
        found: list[Feeling | None] = [None] * len(texts)
        for begin in range(0, len(texts), _SORTED):
            part = [text[:MAX_CHARACTERS] for text in texts[begin : begin + _SORTED]]
            tokens = [tokenize(text) for text in part]
            order = sorted(range(len(part)), key=lambda place: len(tokens[place]))
            for start in range(0, len(order), batch_size):
                places = order[start : start + batch_size]
                chosen = [(part[place], tokens[place]) for place in places]
                for place, feeling in zip(places, self._feel(chosen, head, k), strict=True):
                    found[begin + place] = feeling
        return [feeling for feeling in found if feeling is not None]

    def _feel(self, texts: list[tuple[str, list[Token]]], head: str, k: int) -> list[Feeling]:
        phrases = self.model.phrases([tokens for _, tokens in texts])
        with self.lock, torch.inference_mode():
            logits, weights = self.model(phrases, head)
            best = self.model.probabilities(logits, head).topk(min(k, logits.shape[1]))
        labels = self.model.labels[head]
        found = []
        rows = zip(
            texts, best.values.tolist(), best.indices.tolist(), weights.tolist(), strict=True
        )
        for (text, tokens), likely, places, heavy in rows:
            top = tuple((labels[i], p) for i, p in zip(places, likely, strict=True))
            words = tuple((text[t.start : t.end], w) for t, w in zip(tokens, heavy, strict=False))
            found.append(Feeling(emoji_of(top[0][0]), top[0][0], top[0][1], top, words))
        return found

    def scorer(self, head: str) -> EmojiScorer:
        """A head's logits as a function of the words' vectors, to be explained.

        Raises:
            ValueError: if there is no such head.
        """
        return EmojiScorer(self.model, self.check_head(head)).eval()

    def vectors(self, text: str) -> Tensor:
        """The vectors of a text's words, (1, T, D), T at least 1."""
        with self.lock, torch.no_grad():
            return self.model.embed(self.model.phrases([tokenize(text[:MAX_CHARACTERS])]))

    def to_explain(
        self, text: str, head: str | None, label: str | None
    ) -> tuple[EmojiScorer, Tensor, int]:
        """What `saliency.tokens` needs to explain one label of a text.

        Args:
            text: as `feel` takes it.
            head: which set of labels; None for the first.
            label: one of them; None for the likeliest.

        Returns:
            A scorer, the vectors of the text's words (1, T, D), and the label's number.

        Raises:
            BadText: if the text has no word or is too long, or the label is none of the head's.
            ValueError: if there is no such head.
        """
        head = self.check_head(head)
        found, labels = self.emoji(text, head), self.model.labels[head]
        if not found.word_weights:
            raise BadText("There is no word in the text: type some.")
        if (wanted := label or found.label) not in labels:
            raise BadText(f'"{label}" is none of the labels: {", ".join(labels)}.')
        return self.scorer(head), self.vectors(text), labels.index(wanted)

    def check_head(self, head: str | None) -> str:
        """A head by its name, the first by None.

        Raises:
            ValueError: naming those that there are.
        """
        if head is None:
            return self.heads[0]
        if head not in self.heads:
            raise ValueError(f"there is no head {head!r}; there are: {', '.join(self.heads)}")
        return head
