"""LIME: which superpixels a probability rests on, by covering them at random.

Ribeiro, Singh, Guestrin: "Why Should I Trust You?" (2016). With rows z of 0 (covered) and 1, drawn
evenly, the first all 1, and p the probability of the picture they leave: minimise
sum_z w(z) (p(z) - a - z . c)^2 + |c|^2, w(z) = sqrt(exp(-d^2 / 0.25^2)), d the cosine distance of z
to all 1. The map is c, a coefficient a superpixel.

The same numbers as the `lime` package from the same draws and superpixels, but in batches on the
scorer's device; all probabilities are kept, so that a further target costs a solve, no forward.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from saliency import hooks
from saliency.types import Maps, Progress, check_pixels, check_targets, pick, probabilities

Array = NDArray[Any]
Segmentation = str | Callable[[Array], ArrayLike] | ArrayLike
KERNEL_WIDTH = 0.25  # of cosine distance
ALPHA = 1.0  # weight of |c|^2


def lime(
    scorer: nn.Module,
    pixels: Tensor,
    targets: Sequence[int],
    *,
    samples: int = 1000,
    segmentation: Segmentation = "auto",
    hide: float | None = None,
    seed: int = 0,
    progress: Progress = lambda _done, _total: None,
) -> Maps:
    """How much each superpixel, left uncovered, adds to the probability of each target.

    Args:
        scorer: pixels (B, 3, H, W) -> scores (B, K).
        pixels: one picture, (1, 3, H, W) in [0, 1].
        targets: which of the K scores to explain.
        samples: how many coverings to score, at least 2; the first covers nothing. Ten times the
            superpixels and more make a steady map.
        segmentation: what makes superpixels; see `superpixels`.
        hide: grey level in [0, 1] that covers; None for each superpixel's own mean colour.
        seed: of the coverings.
        progress: called with (done, total) in samples after every chunk; raise from it to stop.

    Returns:
        Signed maps (len(targets), H, W), differences of probability. A target's details:
        "explanation" (lime's own `ImageExplanation`), "r2" (of the linear model, weighted),
        "intercept", "segments" (their number) and "sample" (the `ImageLime`, for further targets
        without a forward). Cost: `samples` forwards, however many targets.

    Raises:
        ValueError: if a target is out of range, or an option or the superpixels will not do.
    """
    sample = ImageLime(pixels, samples=samples, segmentation=segmentation, hide=hide, seed=seed)
    for _done in sample.score(scorer, targets, progress):
        pass
    return sample.maps(targets)


class ImageLime:
    """One picture's coverings and what a scorer said to them, for any number of targets.

    Args:
        pixels: one picture, (1, 3, H, W) in [0, 1].
        samples, segmentation, hide, seed: as in `lime`.

    Attributes:
        picture: (H, W, 3) float32.
        hidden: (H, W, 3) float32, what a covered superpixel shows.
        segments: (H, W) int64, superpixels numbered from 0; may be given as another's segmentation.
        masks: (N, S) bool, whether a sample shows a superpixel.
        weights: (N,) float64, of each sample in the linear model.
        probabilities: (n, K) float32, of the first n samples: those scored so far.
        scores: (1, K), raw, of the picture as it is.

    Raises:
        ValueError: if pixels or an option will not do.
    """

    def __init__(
        self,
        pixels: Tensor,
        *,
        samples: int = 1000,
        segmentation: Segmentation = "auto",
        hide: float | None = None,
        seed: int = 0,
    ) -> None:
        check_pixels(pixels)
        if not isinstance(samples, int) or samples < 2:
            raise ValueError(
                f"samples is {samples!r} and must be a whole number from 2, such as 1000"
            )
        if hide is not None and not 0 <= hide <= 1:
            raise ValueError(f"hide is {hide!r} and must be a grey level from 0 to 1, or None")
        self.picture = pixels.detach()[0].permute(1, 2, 0).float().cpu().numpy().copy()
        self.segments = superpixels(self.picture, segmentation)
        count = int(self.segments.max()) + 1
        self.hidden = _hidden(self.picture, self.segments, hide)
        bits = np.random.RandomState(seed).randint(0, 2, samples * count)  # as lime draws
        self.masks: Array = bits.reshape(samples, count).astype(bool)
        self.masks[0] = True
        distances = 1 - np.sqrt(self.masks.mean(axis=1))  # cosine, to all ones
        self.weights: Array = np.sqrt(np.exp(-(distances**2) / KERNEL_WIDTH**2))
        self.probabilities: Array = np.empty((0, 0), np.float32)
        self.scores = torch.empty(1, 0)
        self._device = pixels.device
        self._ridge: _Ridge | None = None

    def score(
        self,
        scorer: nn.Module,
        targets: Sequence[int],
        progress: Progress = lambda _done, _total: None,
    ) -> Iterator[int]:
        """Score all samples, a chunk a step.

        Args:
            scorer: pixels (B, 3, H, W) -> scores (B, K); as it was found at every yield.
            targets: some that will be asked for, to fail early.
            progress: called with (done, total) samples before every yield.

        Yields:
            How many samples are done.

        Raises:
            ValueError: if a target is out of range.
        """
        check_targets(targets)
        both = self._tensor(np.stack([self.hidden, self.picture]))
        hidden, shown = both.permute(0, 3, 1, 2).contiguous()  # (3, H, W) each
        cells = self._tensor(self.segments).flatten()
        masks = self._tensor(self.masks).float()
        for rows in hooks.chunks(len(masks), hooks.chunk_size(shown)):
            # Between 0 and 1 lerp chooses; at these it does so exactly, and faster than `where`.
            kept = masks[rows].index_select(1, cells).view(-1, 1, *shown.shape[1:])
            with hooks.evaluating(scorer), torch.no_grad():
                scores = scorer(torch.lerp(hidden, shown, kept))
                pick(scores, targets)
                batch = probabilities(scorer, scores).float().cpu().numpy()
            if rows.start == 0:
                self.scores = scores[:1].float()
                probabilities_of_all = np.empty((len(masks), batch.shape[1]), np.float32)
            probabilities_of_all[rows] = batch
            self.probabilities = probabilities_of_all[: rows.stop]
            progress(rows.stop, len(masks))
            yield rows.stop

    def stream(
        self,
        scorer: nn.Module,
        targets: Sequence[int],
        progress: Progress = lambda _done, _total: None,
    ) -> Iterator[Maps]:
        """Yield the maps from the samples scored so far; the last ones are those that `score`
        returns.
        """
        for _done in self.score(scorer, targets, progress):
            yield self.maps(targets)

    def maps(self, targets: Sequence[int]) -> Maps:
        """The maps of some targets from the samples scored so far; no forward.

        Raises:
            ValueError: if a target is out of range.
        """
        scores = pick(self.scores, targets)[0]
        fits = self._solver().fit(self.probabilities[:, list(targets)])
        values = fits[0].astype(np.float32)[:, self.segments]
        details = [LimeDetails(self, *one) for one in zip(targets, *fits, strict=True)]
        return Maps(self._tensor(values), scores, details)

    def _solver(self) -> _Ridge:
        done, ridge = len(self.probabilities), self._ridge
        if ridge is None or len(ridge.weights) != done:
            ridge = self._ridge = _Ridge(self.masks[:done], self.weights[:done])
        return ridge

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self._device)


class LimeDetails(Mapping[str, Any]):
    """What LIME knows of one target; see `lime`.

    lime's own type is made when it is asked for: importing lime takes more than a second.
    """

    def __init__(
        self, sample: ImageLime, target: int, coefficients: Array, intercept: float, r2: float
    ) -> None:
        self._target, self._coefficients = target, coefficients
        values = {"r2": float(r2), "intercept": float(intercept), "segments": len(coefficients)}
        self._values: dict[str, Any] = values | {"sample": sample}

    def __getitem__(self, name: str) -> Any:
        return self.explanation if name == "explanation" else self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("explanation", *self._values))

    def __len__(self) -> int:
        return 1 + len(self._values)

    @functools.cached_property
    def explanation(self) -> Any:
        """lime's `ImageExplanation` of this target alone, for `get_image_and_mask`."""
        from lime.lime_image import ImageExplanation

        target, sample, coefficients = self._target, self._values["sample"], self._coefficients
        order = np.argsort(-np.abs(coefficients), kind="stable")
        explanation = ImageExplanation(sample.picture.copy(), sample.segments.copy())
        explanation.top_labels = [target]
        explanation.local_exp[target] = list(zip(order, coefficients[order], strict=True))
        explanation.intercept[target], explanation.score = self["intercept"], self["r2"]
        explanation.local_pred = np.array([self["intercept"] + coefficients.sum()])
        return explanation


class _Ridge:
    """Weighted ridge regression on rows (n, S), factored once for all targets."""

    def __init__(self, rows: Array, weights: Array) -> None:
        self.weights = weights
        self._mean = np.average(rows, axis=0, weights=weights)
        self._rows = rows - self._mean
        self._weighted = self._rows.T * weights  # (S, n)
        gram = self._weighted @ self._rows + ALPHA * np.eye(rows.shape[1])
        self._factor = torch.linalg.cholesky(torch.from_numpy(gram))

    def fit(self, values: Array) -> tuple[Array, Array, Array]:
        """Values (n, k) -> coefficients (k, S), intercepts (k,) and weighted R2 (k,) of k models.

        R2 is 1 where the values are all the same.
        """
        first = values[0].astype(np.float64)
        rise = values - first  # exactly 0 where nothing changes, and so are the coefficients
        mean = np.average(rise, axis=0, weights=self.weights)
        rise -= mean
        moments = torch.from_numpy(self._weighted @ rise)
        solution = torch.cholesky_solve(moments, self._factor).numpy()  # (S, k)
        missed = self.weights @ (rise - self._rows @ solution) ** 2
        spread = self.weights @ rise**2
        r2 = 1 - np.divide(missed, spread, out=np.zeros_like(missed), where=spread > 0)
        intercept = first + mean - self._mean @ solution
        return solution.T, intercept, r2


def superpixels(picture: Array, segmentation: Segmentation = "auto") -> Array:
    """Cut a picture into regions that look alike.

    Args:
        picture: (H, W, 3) float32 in [0, 1].
        segmentation: "slic" (about 50 compact ones, on small pictures and large; 60 ms at
            224 x 224), "auto" (the same), "felzenszwalb" (a few dozen of very unlike sizes; as
            fast), "quickshift" (as lime does it: slow, and hardly any below 100 pixels a side), a
            function picture -> (H, W) whole numbers, or those numbers themselves.

    Returns:
        (H, W) int64, numbered from 0 without gaps.

    Raises:
        ValueError: if there is no such segmentation, its shape or type is wrong, or it finds a
            single superpixel.
    """
    if isinstance(segmentation, str):
        labels = _segment(picture, "slic" if segmentation == "auto" else segmentation)
    else:
        labels = np.asarray(segmentation(picture) if callable(segmentation) else segmentation)
    if labels.shape != picture.shape[:2]:
        raise ValueError(f"segments have the picture's {picture.shape[:2]}, not {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"segments are whole numbers, not {labels.dtype}")
    names, segments = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ValueError("LIME needs 2 superpixels and this is 1: try slic, or a larger picture")
    return segments.reshape(labels.shape).astype(np.int64)


def _segment(picture: Array, name: str) -> Array:
    smallest = max(2, picture.shape[0] * picture.shape[1] // 250)
    options = {
        # Smoothed a little: on grainy pictures it else finds a single superpixel.
        "slic": {"n_segments": 50, "sigma": 1, "start_label": 0},
        "felzenszwalb": {"scale": 100, "sigma": 0.5, "min_size": smallest},
        "quickshift": {"kernel_size": 4, "max_dist": 200, "ratio": 0.2},
    }
    if name not in options:
        names = ", ".join(options)
        raise ValueError(f"there is no segmentation {name!r}; there are: auto, {names}")
    from skimage import segmentation

    return np.asarray(getattr(segmentation, name)(picture, **options[name]))


def _hidden(picture: Array, segments: Array, hide: float | None) -> Array:
    if hide is not None:
        return np.full_like(picture, hide)
    flat = segments.ravel()
    sorted_colours = picture.reshape(-1, 3)[np.argsort(flat, kind="stable")].T.copy()
    groups = np.split(sorted_colours, np.cumsum(np.bincount(flat))[:-1], axis=1)
    means = np.stack([group.mean(axis=1) for group in groups])  # (S, 3), to lime's last digit
    return np.asarray(means[segments])
