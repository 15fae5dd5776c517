"""A captioner behind plain calls. A picture is encoded once, however often it is described."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from vqa.models import Caption, Captioner, caption_search
from vqa.models.encoder import Grid
from vqa.pipelines.feature_cache import CACHE_BYTES, CachedImageEncoder
from vqa.preprocessing import images
from vqa.scorers.native import CaptionScorer

MAX_BEAM = 20


class CaptionPipeline:
    """Describes pictures; safe to share between threads.

    Args:
        captioner: the model; it is put into eval mode, and learns no more.
        cache_bytes: memory for the grids of the pictures seen last.
    """

    def __init__(self, captioner: Captioner, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.lock = threading.RLock()  # its own thread may describe again, from `progress`
        self._eyes = CachedImageEncoder(captioner, self.lock, cache_bytes=cache_bytes)
        self.captioner = self._eyes.model

    def caption(
        self,
        picture: images.Source,
        *,
        beam: int = 3,
        start: str = "",
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Caption:
        """Describe one picture.

        Args:
            picture: a path, bytes, file object, PIL picture or array.
            beam: captions that are followed at a time, and given as alternatives; 1 is greedy.
            start: what the caption begins with, such as "a man".
            temperature: above 0, `beam` captions are drawn word by word instead of searched for:
                1 draws as the model says, less is bolder.
            seed: of that.

        Raises:
            BadImage: if the picture cannot be read.
            BadText: if the start is too long or has a word that the model does not know.
            ValueError: if beam or temperature is out of range.
        """
        prefix = self.captioner.start_ids(start)
        grid = self._eyes.grid(picture)
        return self._describe(grid, beam, prefix, temperature, seed)[0]

    def caption_batch(self, pictures: Sequence[images.Source], *, beam: int = 3) -> list[Caption]:
        """Describe many pictures in one pass; nothing is cached.

        Raises:
            BadImage: if a picture cannot be read.
            ValueError: if beam is out of range.
        """
        return self._describe(self._eyes.grids(pictures), beam) if pictures else []

    def scorer(self, caption: str | Sequence[str]) -> CaptionScorer:
        """A caption's words as scores of the pixels, for any tool of `saliency`.

        Raises:
            BadText: if it is empty, too long or has a word that the model does not know.
        """
        return CaptionScorer(self.captioner, caption).eval()

    def pixels(self, picture: images.Source) -> Tensor:
        """A picture as the model sees it, (1, 3, S, S) in [0, 1]: squashed to its square.

        Raises:
            BadImage: if the picture cannot be read.
        """
        return self._eyes.pixels(picture)

    def _describe(
        self,
        grid: Grid,
        beam: int,
        prefix: Sequence[int] = (),
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[Caption]:
        if not 1 <= beam <= MAX_BEAM:
            raise ValueError(f"beam is {beam}; it can be 1 to {MAX_BEAM}")
        if temperature and not 0.01 <= temperature <= 10:
            raise ValueError(f"temperature is {temperature}; it can be 0, or 0.01 to 10")
        model = self.captioner
        with self.lock, torch.inference_mode():
            look = model.project_image(grid.cells)
            if temperature:
                found = caption_search.draw(
                    model,
                    look,
                    count=beam,
                    prefix=prefix,
                    temperature=temperature,
                    generator=torch.Generator().manual_seed(seed),
                )
            else:
                found = caption_search.search(model, look, width=beam, prefix=prefix)
            return caption_search.describe(model, grid, look, found)
