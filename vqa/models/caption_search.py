"""From a captioner's numbers to captions: search, scoring by all its directions, words and maps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from vqa.models.captioner import Caption, Captioner, ProjectedImage, mirror, reverse
from vqa.models.decoding import Found, beam_search, sample
from vqa.models.encoder import Grid
from vqa.preprocessing.vocabulary import Vocab


class Scored(NamedTuple):
    """Captions word by word; the entry behind the last word is that of the end."""

    log_probs: Tensor  # (R, T + 1), 0 on padding and for the end of one cut at max_words
    attention: Tensor | None  # (R, T + 1, N)


def search(
    model: Captioner, look: ProjectedImage, *, width: int = 3, prefix: Sequence[int] = ()
) -> Found:
    """The best captions of each picture, by beam search.

    With two LSTMs each searches, and both score what either found: log p is the mean of the two.

    Args:
        model: in eval mode.
        look: B pictures.
        width: beams, K; 1 is greedy.
        prefix: words that the captions begin with.

    Returns:
        The K best of each picture, (B, K, T) padded with `Vocab.PAD`.
    """
    beams = partial(
        beam_search,
        end=model.end,
        width=width,
        max_words=model.config.max_words,
        length_power=model.config.length_power,
    )
    found = beams(model.stepper(look), prefix=prefix)
    found = found._replace(words=_padded(model, found))
    if len(model.decoders) == 1:
        return found
    backward = _padded(model, beams(model.stepper(look, 1)))
    backward = reverse(backward.flatten(0, 1)).view_as(backward)
    return _best_of_both(model, look, (found.words, backward), width, prefix)


def draw(
    model: Captioner,
    look: ProjectedImage,
    *,
    count: int = 1,
    prefix: Sequence[int] = (),
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Found:
    """Captions drawn word by word from the forward LSTM; see `vqa.models.decoding.sample`."""
    found = sample(
        model.stepper(look),
        end=model.end,
        count=count,
        max_words=model.config.max_words,
        prefix=prefix,
        temperature=temperature,
        generator=generator,
    )
    return found._replace(words=_padded(model, found))


def score(model: Captioner, look: ProjectedImage, ids: Tensor, owner: Tensor) -> Scored:
    """How likely each word of given captions is, and where the model looked for it.

    Args:
        model: in eval mode.
        look: the pictures.
        ids: (R, T) int64, padded with `Vocab.PAD`.
        owner: (R,), which picture each caption is about.

    Returns:
        Means over the model's directions.
    """
    lengths = (ids != Vocab.PAD).sum(1)
    places = torch.arange(ids.shape[1] + 1, device=ids.device)
    ends = torch.cat([ids, torch.full_like(ids[:, :1], Vocab.PAD)], dim=1)
    wanted = ends.masked_fill(places == lengths.unsqueeze(1), model.end)
    log_probs, maps = [], []
    for direction in range(len(model.decoders)):
        turn = mirror(lengths, len(places)) if direction else places.expand_as(wanted)
        given = ids.gather(1, turn[:, :-1])
        output = model(look, given, owner, direction)
        said = wanted.gather(1, turn).unsqueeze(2)
        logits = output.logits + model.special_token_mask()
        each = logits.log_softmax(2).gather(2, said).squeeze(2)
        log_probs.append(each.gather(1, turn))
        if output.attention is not None:
            there = turn.unsqueeze(2).expand_as(output.attention)
            maps.append(output.attention.gather(1, there))
    cut = (lengths >= model.config.max_words).long()  # such a caption has no end
    counted = places < (lengths + 1 - cut).unsqueeze(1)
    mean = torch.stack(log_probs).mean(0).masked_fill(~counted, 0.0)
    return Scored(mean, torch.stack(maps).mean(0) if maps else None)


def describe(model: Captioner, grid: Grid, look: ProjectedImage, found: Found) -> list[Caption]:
    """The best caption of each picture in words and numbers, the others as its alternatives.

    Args:
        model: in eval mode.
        grid: what the pictures were encoded to.
        look: the same, as `model.look` returns it.
        found: of `search` or `draw`.
    """
    best = found.words[:, 0]
    scored = score(model, look, best, torch.arange(len(best), device=best.device))
    return [_caption(model, grid, found, scored, picture=picture) for picture in range(len(best))]


def _caption(
    model: Captioner, grid: Grid, found: Found, scored: Scored, *, picture: int
) -> Caption:
    totals = found.log_probs[picture].tolist()
    texts = [_spell(model, row) for row in found.words[picture].tolist()]
    there = [(" ".join(t), p) for t, p in zip(texts, totals, strict=True) if p > -torch.inf]
    words, count, attention = texts[0], len(texts[0]), None
    if scored.attention is not None:
        maps = scored.attention[picture, :count].view(count, grid.height, grid.width)
        attention = maps.float().cpu().numpy()
    word_probs = tuple(scored.log_probs[picture, :count].exp().tolist())
    return Caption(
        text=" ".join(words),
        words=words,
        word_probs=word_probs,
        attention=attention,
        log_prob=totals[0],
        alternatives=tuple(dict(there).items()),  # what is drawn may repeat itself
        unsure=bool(words) and fmean(word_probs) < model.config.unsure_below,
    )


def _spell(model: Captioner, ids: list[int]) -> tuple[str, ...]:
    return tuple(model.words.words[i] for i in ids if i != Vocab.PAD)


def _padded(model: Captioner, found: Found) -> Tensor:
    """Words (B, K, T) with padding for the end; where no caption was left to find, all padding."""
    none = (found.log_probs == -torch.inf).unsqueeze(2)
    return found.words.masked_fill((found.words == model.end) | none, Vocab.PAD)


def _best_of_both(
    model: Captioner,
    look: ProjectedImage,
    candidates: tuple[Tensor, Tensor],
    width: int,
    prefix: Sequence[int],
) -> Found:
    """Rank the candidates (B, K, T) of both directions by both."""
    longest = max(each.shape[2] for each in candidates)
    words = torch.cat(
        [
            torch.nn.functional.pad(each, (0, longest - each.shape[2]), value=Vocab.PAD)
            for each in candidates
        ],
        dim=1,
    )
    batch, count, _ = words.shape
    owner = torch.arange(batch, device=words.device).repeat_interleave(count)
    totals = score(model, look, words.flatten(0, 1), owner).log_probs.sum(1).view(batch, count)
    lengths = (words != Vocab.PAD).sum(2)
    head = torch.tensor(prefix, dtype=torch.long, device=words.device)
    other = (words[:, :, : len(prefix)] != head).any(2) | (lengths == 0)
    same = (words.unsqueeze(1) == words.unsqueeze(2)).all(3)  # (B, count, count)
    again = same.tril(-1).any(2)  # the same caption stands before
    totals = totals.masked_fill(other | again, -torch.inf)
    said = lengths + (lengths < model.config.max_words).long()  # the end too, where there is one
    ranks = totals / said**model.config.length_power
    order = ranks.argsort(dim=1, descending=True, stable=True)[:, :width]
    picked = words.gather(1, order.unsqueeze(2).expand(-1, -1, longest))
    return Found(picked, lengths.gather(1, order), totals.gather(1, order))
