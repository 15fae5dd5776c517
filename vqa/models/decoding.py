"""Words from a language model step by step: beam search and sampling, batched over pictures.

Both drive a `Stepper`: something that, given the words so far, scores the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

State = tuple[Tensor, Tensor]  # of an LSTM: hidden and cell, each (B, K, H)


class Stepper(Protocol):
    """One direction of a captioner, with the pictures it speaks about."""

    def start(self, width: int) -> State:
        """The state before the first word, (B, width, H) each."""

    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """Words (B, K) -> the next one's logits (B, K, V), -inf where it cannot be said."""


class Found(NamedTuple):
    """K word sequences a picture, best first."""

    words: Tensor  # (B, K, T) int64, without the end; `end` from there on
    lengths: Tensor  # (B, K) int64, the end not counted
    log_probs: Tensor  # (B, K), summed over the words and the end; -inf: no such sequence


def beam_search(
    stepper: Stepper,
    *,
    end: int,
    width: int = 3,
    max_words: int = 20,
    prefix: Sequence[int] = (),
    length_power: float = 1.0,
) -> Found:
    """Search for the likeliest sequences (Graves 2012), ranked by log probability over length.

    Args:
        stepper: what scores the words.
        end: the word that begins and ends every sequence.
        width: beams a picture, K; 1 is greedy.
        max_words: longer sequences are not looked at; one of this length needs no end.
        prefix: words that every sequence begins with.
        length_power: sequences are ranked by log p / length ** length_power, the end counted; 0
            prefers short ones.

    Returns:
        The K best of each picture, at most as many as there are words. Fewer different ones may
        exist: the rest have a log probability of -inf.
    """
    state = stepper.start(1)
    log_probs, state, prefix_score = _force(stepper, state, end, prefix)
    batch, _, vocabulary = log_probs.shape
    width = min(width, vocabulary)
    scores = prefix_score.unsqueeze(1)  # (B, 1), of the live and the finished alike
    finished = torch.zeros_like(scores, dtype=torch.bool)
    lengths = torch.full_like(scores, len(prefix), dtype=torch.long)
    head = torch.tensor(prefix, dtype=torch.long, device=scores.device)
    words = head.expand(batch, 1, len(prefix))
    if not prefix:
        log_probs[:, :, end] = -torch.inf  # saying nothing is no caption
    for place in range(len(prefix), max_words):
        if place > len(prefix):
            log_probs, state = _advance(stepper, words[:, :, -1], state)
            # A finished sequence has one continuation: itself.
            log_probs = log_probs.masked_fill(finished.unsqueeze(2), -torch.inf)
            log_probs[:, :, end] = log_probs[:, :, end].masked_fill(finished, 0.0)
        total = scores.unsqueeze(2) + log_probs  # (B, K, V)
        said = (lengths + ~finished).unsqueeze(2) ** length_power
        _, best = (total / said).flatten(1).topk(width, dim=1)
        parents, chosen = best // vocabulary, best % vocabulary
        scores = total.flatten(1).gather(1, best)
        lengths = (lengths + ~finished).gather(1, parents)
        finished = finished.gather(1, parents) | (chosen == end)
        words = torch.cat([_pick(words, parents), chosen.unsqueeze(2)], dim=2)
        state = (_pick(state[0], parents), _pick(state[1], parents))
        if bool(finished.all()):
            break
    order = (scores / lengths**length_power).argsort(dim=1, descending=True, stable=True)
    lengths = lengths - finished.long()
    return Found(_pick(words, order), lengths.gather(1, order), scores.gather(1, order))


def sample(
    stepper: Stepper,
    *,
    end: int,
    count: int = 1,
    max_words: int = 20,
    prefix: Sequence[int] = (),
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Found:
    """Draw sequences word by word.

    Args:
        stepper: what scores the words.
        end: the word that begins and ends every sequence.
        count: sequences a picture, K.
        max_words: a sequence is cut there.
        prefix: words that every sequence begins with.
        temperature: 1 draws as the model says, less is bolder, 0 takes the likeliest word.
        generator: where the randomness comes from.

    Returns:
        K sequences a picture in the order drawn, with their log probability at temperature 1.
    """
    first, state, prefix_score = _force(stepper, stepper.start(1), end, prefix)
    batch = len(first)
    log_probs = first.expand(batch, count, -1).clone()
    if not prefix:
        log_probs[:, :, end] = -torch.inf
    state = (state[0].expand(batch, count, -1), state[1].expand(batch, count, -1))
    scores = prefix_score.unsqueeze(1).expand(batch, count).clone()
    finished = torch.zeros_like(scores, dtype=torch.bool)
    head = torch.tensor(prefix, dtype=torch.long, device=scores.device)
    words = head.expand(batch, count, len(prefix))
    for place in range(len(prefix), max_words):
        if place > len(prefix):
            log_probs, state = _advance(stepper, words[:, :, -1], state)
        chosen = _draw(log_probs, temperature, generator).masked_fill(finished, end)
        gained = log_probs.gather(2, chosen.unsqueeze(2)).squeeze(2)
        scores += gained.masked_fill(finished, 0.0)
        finished = finished | (chosen == end)
        words = torch.cat([words, chosen.unsqueeze(2)], dim=2)
        if bool(finished.all()):
            break
    return Found(words, (words != end).sum(2), scores)


def _draw(log_probs: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    if not temperature:
        return log_probs.argmax(2)
    shares = (log_probs / temperature).softmax(2)
    drawn = torch.multinomial(shares.flatten(0, 1), 1, generator=generator)
    return drawn.view(log_probs.shape[:2])


def _advance(stepper: Stepper, words: Tensor, state: State) -> tuple[Tensor, State]:
    logits, state = stepper.step(words, state)
    return logits.log_softmax(2), state


def _force(
    stepper: Stepper, state: State, end: int, prefix: Sequence[int]
) -> tuple[Tensor, State, Tensor]:
    """Have the prefix said: the next word's log probs (B, 1, V), the state, the prefix's (B,)."""
    batch = len(state[0])
    words = torch.full((batch, 1), end, device=state[0].device)
    log_probs, state = _advance(stepper, words, state)
    score = log_probs.new_zeros(batch)
    for word in prefix:
        score = score + log_probs[:, 0, word]
        log_probs, state = _advance(stepper, torch.full_like(words, word), state)
    return log_probs, state, score


def _pick(values: Tensor, places: Tensor) -> Tensor:
    """Values (B, K, X) at places (B, K') -> (B, K', X)."""
    return values.gather(1, places.unsqueeze(2).expand(-1, -1, values.shape[2]))
