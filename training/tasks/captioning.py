"""The captioner as the training loop sees it: its losses and its validation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from training.core.loop import Batch
from training.core.run import ModelTask, zero_loss
from training.data.caption_set import CaptionSet
from training.tasks.object_loss import ObjectLoss
from vqa.metrics.functional.captions import CiderIndex
from vqa.models import Captioner
from vqa.models.caption_search import draw, search
from vqa.models.captioner import END, ProjectedImage, reverse
from vqa.preprocessing.vocabulary import Vocab

GROUPS = 4


class CaptionLoss(nn.Module):
    """Summed cross-entropy over the words, of every direction in time.

    Args:
        model: learns.
        smoothing: share of each target that is spread over all words.
        objects: an auxiliary loss, a picture; None for none.
    """

    def __init__(
        self, model: Captioner, smoothing: float, objects: ObjectLoss | None = None
    ) -> None:
        super().__init__()
        self.model, self.smoothing, self.objects = model, smoothing, objects

    def forward(self, batch: Batch) -> Tensor:
        """Loss of a batch of `CaptionSet`, a scalar."""
        if not len(batch["ids"]):
            return zero_loss(self)
        cells = encode(self.model, batch)
        with torch.autocast(cells.device.type, enabled=False):  # decoders learn in float32
            return self.of(cells, batch)

    def of(self, cells: Tensor, batch: Batch) -> Tensor:
        """The loss for pictures that are encoded already."""
        look = self.model.project_image(cells)
        total = cells.new_zeros(())
        for direction, decoder in enumerate(self.model.decoders):
            if not any(p.requires_grad for p in decoder.parameters()):
                continue
            losses = word_losses(
                self.model,
                look,
                batch["ids"],
                batch["owner"],
                direction=direction,
                smoothing=self.smoothing,
            )
            total = total + losses.sum()
        if self.objects is not None:
            total = total + self.objects(cells, batch["objects"])
        return total


class SelfCritical(nn.Module):
    """Rennie et al. 2017, with the mean of the other samples as baseline (Luo 2020).

    The reward of a sampled caption is its CIDEr-D; the end counts as a word, or captions would
    learn to stop in mid-sentence.

    Args:
        plain: cross-entropy, which keeps the captions fluent.
        references: an index made by `reward_index` of the training captions.
        count: samples a picture.
        weight: of the reward, against `plain`.
        temperature: of the samples and of their gradient: below 1 the captions that the model
            would choose learn, not those that it would hardly ever say.
    """

    def __init__(
        self,
        plain: CaptionLoss,
        references: CiderIndex,
        *,
        count: int,
        weight: float,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.plain, self.references, self.count, self.weight = plain, references, count, weight
        self.temperature = temperature

    def forward(self, batch: Batch) -> Tensor:
        """Loss of a batch of `CaptionSet`, a scalar."""
        if not len(batch["ids"]):
            return zero_loss(self)
        cells = encode(self.plain.model, batch)
        with torch.autocast(cells.device.type, enabled=False):
            loss = self.weight * self._reward(cells, batch)
            if self.weight < 1:
                loss = loss + (1 - self.weight) * self.plain.of(cells, batch)
            return loss

    def _reward(self, cells: Tensor, batch: Batch) -> Tensor:
        model = self.plain.model
        ids = self._samples(cells.detach())  # (B, K, T), PAD after the end
        rewards = self._rewards(ids, batch["place"]).to(cells.device)
        others = (rewards.sum(1, keepdim=True) - rewards) / (self.count - 1)
        owner = torch.arange(len(cells), device=cells.device).repeat_interleave(self.count)
        rows = ids.flatten(0, 1)
        losses = word_losses(
            model, model.project_image(cells), rows, owner, temperature=self.temperature
        )
        gain = ((rewards - others).flatten() * losses).sum()
        # `count` are the words of the references; as many weigh here.
        return gain * batch["count"] / max(1, int((rows != Vocab.PAD).sum()) + len(rows))

    @torch.no_grad()
    def _samples(self, cells: Tensor) -> Tensor:
        model = self.plain.model
        model.eval()
        found = draw(
            model, model.project_image(cells), count=self.count, temperature=self.temperature
        )
        model.train()
        return found.words

    def _rewards(self, ids: Tensor, places: Tensor) -> Tensor:
        said = [
            [self.references.score([*words, END], place) for words in captions]
            for captions, place in zip(spell(self.plain.model, ids), places.tolist(), strict=True)
        ]
        return torch.tensor(said)


def reward_index(train: CaptionSet) -> CiderIndex:
    """References of the training pictures for `SelfCritical`, each with its end."""
    return CiderIndex([[[*text, END] for text in texts] for texts in train.corpus.captions])


def encode(model: Captioner, batch: Batch) -> Tensor:
    """The cells (B, N, C) of a batch of `CaptionSet`, fp32."""
    return (batch["cells"] if "cells" in batch else model.encode(batch["pixels"]).cells).float()


def word_losses(
    model: Captioner,
    look: ProjectedImage,
    ids: Tensor,
    owner: Tensor,
    *,
    direction: int = 0,
    smoothing: float = 0.0,
    temperature: float = 1.0,
) -> Tensor:
    """Cross-entropy of captions (R, T), summed over the words and the end of each: (R,)."""
    lengths = (ids != Vocab.PAD).sum(1)
    losses = []
    order = lengths.argsort()
    for rows in order.chunk(GROUPS):  # captions of like length, so that little of it is padding
        given = ids[rows, : max(1, int(lengths[rows].max()))]
        given = reverse(given) if direction else given
        wanted = targets(given, model.end)
        said = wanted != Vocab.PAD
        read, _ = model.hidden_states(look, given, owner[rows], direction)
        logits = model.logits(read[said]) / temperature
        each = F.cross_entropy(logits, wanted[said], label_smoothing=smoothing, reduction="none")
        losses.append(each.new_zeros(wanted.shape).masked_scatter(said, each).sum(1))
    return torch.cat(losses)[order.argsort()]


def targets(ids: Tensor, end: int) -> Tensor:
    """Captions (R, T) -> what each step should say (R, T + 1): the words, the end, then padding.

    Unknown words are padding too: nobody should learn to say them.
    """
    padded = F.pad(ids, (0, 1), value=Vocab.PAD)
    lengths = (ids != Vocab.PAD).sum(1, keepdim=True)
    return padded.scatter(1, lengths, end).masked_fill(padded == Vocab.UNK, Vocab.PAD)


def spell(model: Captioner, ids: Tensor) -> list[list[list[str]]]:
    """Captions (B, K, T) in words, without padding."""
    words = model.words.words
    return [[[words[i] for i in row if i != Vocab.PAD] for row in rows] for rows in ids.tolist()]


class CaptionTask(ModelTask):
    """The captioner as the loop sees it, with the encoder frozen or not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.references = CiderIndex(self.validation.corpus.captions)

    def validate(self, model: nn.Module) -> float:
        """CIDEr of free-running captions, beam 3, over the validation pictures."""
        assert isinstance(model, Captioner)
        scores = [
            self.references.score(words, place)
            for place, words in generate(model, self.validation, self.accelerator)
        ]
        scores = gather_object(scores)
        return float(sum(scores)) / max(1, len(scores))


@torch.no_grad()
def generate(
    model: Captioner, captions: CaptionSet, accelerator: Accelerator, width: int = 3
) -> Iterator[tuple[int, list[str]]]:
    """This process's share of the pictures: their place in the corpus, and the best caption."""
    model.eval()
    share = range(accelerator.process_index, len(captions), accelerator.num_processes)
    for start in range(0, len(share), 64):
        batch = captions.batch([(0, i) for i in share[start : start + 64]])
        places = batch.pop("place").tolist()
        if not places:
            continue
        batch = {name: t.to(accelerator.device) for name, t in batch.items()}
        with accelerator.autocast():
            cells = encode(model, batch)
        found = search(model, model.project_image(cells), width=width)
        yield from zip(places, (rows[0] for rows in spell(model, found.words)), strict=True)
