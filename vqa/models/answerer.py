"""Answer a question about a picture: question LSTM, attention over the grid, product fusion.

The skeleton is Show, Ask, Attend, and Answer (Kazemi and Elqursh 2017) with the gated products of
Teney et al. 2018 reduced to plain ones, trained with soft cross-entropy on the graded answers.

Where people would look, s, which sums to 1 over the N cells v, can take part in five ways:

    none        not at all
    multiply    v N s                      cells are scaled (Qiao et al. 2018 weigh features so)
    residual    v (1 + N s)
    prior       alpha = softmax(f(v, h) + log(s + 0.05))
    gated       alpha = softmax(f(v, h) + g(h) log(s + 0.05)), g(h) = w . h + b

In the last the question h decides how far to trust gaze: g may be 0, or negative to look away from
what draws the eye. It begins at 0.3 for every question.

A detector of concepts can take part too: each word of the question that names one is weighed by how
much better it fits the picture than it usually does, and the sum joins the attended picture. So
can an object head on the same encoder: see `vqa.models.object_evidence`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqa.errors import BadText
from vqa.models.concept_detector import ConceptDetector
from vqa.models.encoder import CELL_LENGTH, Encoder, EncoderConfig, Grid
from vqa.models.gaze import GazeConfig, GazeModel
from vqa.models.object_evidence import ObjectEvidence
from vqa.models.objects import ObjectHead, pyramid_strides
from vqa.models.outputs import Answer, AnswererOutput
from vqa.models.question_encoder import EncodedQuestions, QuestionEncoder
from vqa.preprocessing.question_text import clean_question, tokenize
from vqa.preprocessing.vocabulary import Vocab

FUSIONS = ("none", "multiply", "residual", "prior", "gated")
GAZE_FLOOR = 0.05  # added to a gaze map before its logarithm: no cell is ever ruled out
GAZE_TRUST = 0.3  # what the gate gives every question before it has learnt
CONCEPT_GAIN = 2.0  # how well words fit counts so much: their weights sum to 1, each alone is quiet
CONTROLS = 64  # gaze maps of other pictures, for `wrong_gaze`


@dataclass(frozen=True)
class AnswererConfig:
    """Everything that rebuilds an answerer without its weights."""

    encoder: EncoderConfig
    num_words: int  # of the question vocabulary, padding and unknown included
    num_answers: int
    word_dim: int = 300  # word embedding
    hidden_dim: int = 512  # LSTM state, the question's vector
    attention_dim: int = 512  # where question and grid cell meet
    fused_dim: int = 1024  # where question and attended picture meet
    glimpses: int = 2  # attention maps a question
    dropout: float = 0.5  # on words, question, attention's query, attended picture and classifier
    max_words: int = 30  # longer questions are refused: training had none
    blind: bool = False  # question-only ablation: the picture is never looked at
    gaze: GazeConfig | None = None  # of the model of where people look, for every fusion but none
    fusion: str = "none"  # none | multiply | residual | prior | gated
    wrong_gaze: bool = False  # control: each picture gets the gaze map of another one
    num_concepts: int = 0  # that are detected in the picture; 0: no detector
    concept_dim: int = 128  # where cell and concept meet
    num_objects: int = 0  # classes of objects that are found and counted; 0: none
    object_channels: int = 128  # of the object head's maps
    object_stride: int = 8  # pixels a cell of these maps

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS:
            raise ValueError(f"fusion is {self.fusion!r}; it can be {', '.join(FUSIONS)}")
        if (self.gaze is None) != (self.fusion == "none"):
            raise ValueError("a gaze model and a fusion other than none go together")
        if self.gaze is None and self.wrong_gaze:
            raise ValueError("wrong_gaze needs a gaze model and a fusion")
        if self.blind and (self.gaze is not None or self.num_concepts):
            raise ValueError("a blind answerer has no use for gaze or concepts")
        if self.blind and self.num_objects:
            raise ValueError("a blind answerer has no use for objects")


class Answerer(nn.Module):
    """Answers questions about pictures; see `AnswererConfig`."""

    Config = AnswererConfig
    model_type = "answerer"
    temperature: Tensor
    controls: Tensor

    def __init__(
        self,
        config: AnswererConfig,
        words: Vocab,
        answers: tuple[str, ...],
        concepts: tuple[str, ...] = (),
        objects: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        _check_size("words", len(words), config.num_words)
        _check_size("answers", len(answers), config.num_answers)
        _check_size("concepts", len(concepts), config.num_concepts)
        _check_size("objects", len(objects), config.num_objects)
        self.config, self.words, self.answers, self.concepts = config, words, answers, concepts
        self.encoder = Encoder(config.encoder)
        self.question = QuestionEncoder(
            config.num_words, config.word_dim, config.hidden_dim, config.dropout
        )
        channels, d = self.encoder.channels, config.attention_dim
        self.cell_key = nn.Linear(channels, d)
        self.question_key = nn.Linear(config.hidden_dim, d)
        self.attend = nn.Linear(d, config.glimpses, bias=False)  # softmax ignores a constant
        self.fuse_question = nn.Linear(config.hidden_dim, config.fused_dim)
        self.fuse_picture = nn.Linear(config.glimpses * channels, config.fused_dim)
        self.classify = nn.Linear(config.fused_dim, config.num_answers)
        self.detector: ConceptDetector | None = None
        if concepts:
            self.detector = ConceptDetector(
                channels, config.concept_dim, words, concepts, config.dropout
            )
            self.fuse_concepts = nn.Linear(config.hidden_dim, config.fused_dim, bias=False)
        self.objects: ObjectHead | None = None
        if objects:
            self.strides = pyramid_strides(config.object_stride, config.encoder.stride)
            widths = self.encoder.pyramid_widths(self.strides)
            self.objects = ObjectHead(widths, objects, config.object_channels)
            self.evidence = ObjectEvidence(
                words, objects, answers, config.hidden_dim, config.fused_dim
            )
        self.dropout = nn.Dropout(config.dropout)
        self.rectify = nn.ReLU()  # a module, so that guided backprop finds it
        self.register_buffer("temperature", torch.ones(()))  # fitted on validation
        self.gaze = None if config.gaze is None else GazeModel(config.gaze).eval()
        self.gate = nn.Linear(config.hidden_dim, 1) if config.fusion == "gated" else None
        if self.gate is not None:
            nn.init.zeros_(self.gate.weight)
            nn.init.constant_(self.gate.bias, GAZE_TRUST)
        if config.wrong_gaze:
            height, width = self.encoder.grid_size
            even = torch.full((CONTROLS, height * width), 1 / (height * width))
            self.register_buffer("controls", even)  # set before training

    @classmethod
    def from_parts(cls, config: dict[str, Any], vocab: dict[str, list[str]]) -> Answerer:
        """Build from the plain contents of config.json and vocab.json."""
        words, answers = Vocab(tuple(vocab["words"])), tuple(vocab["answers"])
        concepts = tuple(vocab.get("concepts", ()))
        parts: dict[str, Any] = {"encoder": EncoderConfig.from_plain(config["encoder"])}
        if gaze := config.get("gaze"):
            parts["gaze"] = GazeConfig.from_plain(gaze)
        objects = tuple(vocab.get("objects", ()))
        return cls(AnswererConfig(**{**config, **parts}), words, answers, concepts, objects)

    def vocabulary(self) -> dict[str, list[str]]:
        """The contents of vocab.json."""
        lists = {"words": list(self.words.words), "answers": list(self.answers)}
        if self.concepts:
            lists["concepts"] = list(self.concepts)
        if self.objects is not None:
            lists["objects"] = list(self.objects.names)
        return lists

    def encode(self, pixels: Tensor, gaze_shares: Tensor | None = None) -> Grid:
        """Look at pictures.

        Args:
            pixels: (B, 3, S, S) in [0, 1].
            gaze_shares: (B, N), what `gaze_on_grid` returns for them, if that is known already.

        Returns:
            Cells (B, N, C), each of length `CELL_LENGTH`. With K classes of objects 2 K entries
            follow, as `ObjectHead.per_cell` returns them, and the grid has the maps of the objects.
            With gaze the last entry is the share of people's fixations that falls on the cell.
        """
        if self.config.blind:
            height, width = self.encoder.grid_size
            shape = (len(pixels), height * width, self.encoder.channels)
            # Constant cells, not zeros: a product with nothing would cripple the ablation.
            constant = CELL_LENGTH / self.encoder.channels**0.5
            return Grid(pixels.new_full(shape, constant), height, width)
        strides = self.strides if self.objects is not None else ()
        grid, pyramid = self.encoder.with_pyramid(pixels, strides)
        grid = grid.normalised(self.encoder.widths)
        if self.objects is not None:
            maps = self.objects.head(pyramid)
            counts = self.objects.per_cell(maps, (grid.height, grid.width))
            grid = grid._replace(cells=torch.cat([grid.cells, counts], dim=-1), objects=maps)
        if self.gaze is None:
            return grid
        if gaze_shares is None:
            gaze_shares = self.gaze_on_grid(pixels, (grid.height, grid.width))
        return grid._replace(cells=torch.cat([grid.cells, gaze_shares.unsqueeze(-1)], dim=-1))

    def train(self, mode: bool = True) -> Answerer:
        """Switch to training mode; gaze model, detector and object head stay out of it."""
        super().train(mode)
        for part in (self.gaze, self.detector, self.objects):
            if part is not None:
                part.eval()
        return self

    def gaze_on_grid(
        self, pixels: Tensor, grid_size: tuple[int, int], *, wrong: bool | None = None
    ) -> Tensor:
        """Say where people look, cell by cell.

        Args:
            pixels: (B, 3, S, S) in [0, 1].
            grid_size: height and width in cells.
            wrong: whether to give another picture's, as a control; None for as the config says.

        Returns:
            The share of the looks that falls on each cell, (B, N): each row sums to 1.

        Raises:
            ValueError: if there is no gaze model.
        """
        if self.gaze is None:
            raise ValueError("this answerer has no gaze model")
        if self.config.wrong_gaze if wrong is None else wrong:
            # Which map is a matter of the picture alone: sums of whole numbers are exact.
            coarse = (255 * pixels[:, :, ::16, ::16]).round().long()
            return self.controls[coarse.sum((1, 2, 3)) % len(self.controls)]
        side = self.gaze.config.encoder.image_size
        if pixels.shape[-1] != side:
            pixels = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
        shares = F.adaptive_avg_pool2d(self.gaze(pixels), grid_size).flatten(1)
        return shares / shares.sum(dim=1, keepdim=True)

    def forward(self, cells: Tensor, ids: Tensor, owner: Tensor) -> AnswererOutput:
        """Score every answer to every question.

        Args:
            cells: grids of the pictures, as `encode` returns them.
            ids: questions, (Q, T) int64, padded on the right with `Vocab.PAD`.
            owner: (Q,) int64, which picture each question is about: a picture's cells are projected
                once.

        Returns:
            Logits (Q, A), attention (Q, glimpses, N), word weights (Q, T) and trust in gaze (Q,).
        """
        return self.score_encoded(cells, self.question(ids), owner)

    def score_encoded(self, cells: Tensor, read: EncodedQuestions, owner: Tensor) -> AnswererOutput:
        """Attend and score for questions that are encoded already."""
        question, seen, evidence = read.vector, cells, None
        cells, gaze_shares = self._apply_gaze(cells)
        if self.objects is not None:
            counts = seen[..., self.encoder.channels :][..., : 2 * len(self.objects.names)]
            evidence = self.evidence(counts, self.objects.thresholds, read, owner)
        keys = self.rectify(self.cell_key(cells))  # (B, N, d), once a picture
        queries = self.dropout(self.rectify(self.question_key(question)))  # (Q, d)
        # w . (key * query) is (w * query) . key: one small product instead of (Q, N, d).
        weighted = queries.unsqueeze(1) * self.attend.weight  # (Q, glimpses, d)
        scores = weighted @ keys[owner].transpose(1, 2)  # (Q, glimpses, N)
        trust = None
        if gaze_shares is not None:
            trust = question.new_ones(len(question))
            if self.gate is not None:
                trust = self.gate(question).squeeze(-1)
            prior = torch.log(gaze_shares + GAZE_FLOOR)[owner]  # (Q, N)
            scores = scores + (trust.unsqueeze(-1) * prior).unsqueeze(1)
        if evidence is not None:
            scores = scores + evidence.prior.unsqueeze(1)
        attention = scores.softmax(dim=-1)
        picture = (attention @ cells[owner]).flatten(1)  # (Q, glimpses * C)
        shown, fits = self.fuse_picture(self.dropout(picture)), None
        if self.detector is not None:
            fits = self.detector.concept_zscores(seen, read.ids, owner)
            fitting = CONCEPT_GAIN * (fits.unsqueeze(-1) * read.words).sum(dim=1)  # (Q, hidden_dim)
            shown = shown + self.fuse_concepts(self.dropout(fitting))
        if evidence is not None:
            shown = shown + evidence.features
        fused = self.rectify(self.fuse_question(question)) * self.rectify(shown)
        logits = self.classify(self.dropout(fused))
        if evidence is not None:
            logits = logits + evidence.logits
        return AnswererOutput(logits, attention, read.weights, trust, fits)

    def _apply_gaze(self, cells: Tensor) -> tuple[Tensor, Tensor | None]:
        """Cells as `encode` returns them -> the features to look at, and gaze where it is a prior
        on the attention."""
        features = cells[..., : self.encoder.channels]
        if self.gaze is None:
            return features, None
        gaze_shares = cells[..., -1]
        # 1 where people look as often as anywhere.
        factor = gaze_shares.unsqueeze(-1) * gaze_shares.shape[1]
        match self.config.fusion:
            case "multiply":
                return features * factor, None
            case "residual":
                return features * (1 + factor), None
        return features, gaze_shares

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits (..., A) as calibrated probabilities (..., A)."""
        return (logits / self.temperature).softmax(-1)

    def question_ids(self, question: str) -> list[int]:
        """Word numbers of a question.

        Raises:
            BadText: if the question is empty or has too many characters or words.
        """
        tokens = tokenize(clean_question(question))
        if len(tokens) > self.config.max_words:
            raise BadText(
                f"The question has {len(tokens)} words and the limit is {self.config.max_words}: "
                "ask a shorter one."
            )
        return self.words.encode(tokens)

    def describe(
        self, question: str, output: AnswererOutput, row: int, grid_size: tuple[int, int], k: int
    ) -> Answer:
        """One row of an output in words and numbers, with the k likeliest answers."""
        tokens = tokenize(clean_question(question))
        best = self.probabilities(output.logits[row]).topk(min(k, len(self.answers)))
        top = tuple(
            (self.answers[i], float(p)) for p, i in zip(*map(Tensor.tolist, best), strict=True)
        )
        weights = output.word_weights[row, : len(tokens)].tolist()
        trust = None if output.trust is None else float(output.trust[row])
        fits: tuple[tuple[str, float], ...] = ()
        if output.fits is not None and self.detector is not None:
            named = (self.detector.of_word[self.words.encode(tokens)] >= 0).tolist()
            found = zip(tokens, output.fits[row, : len(tokens)].tolist(), strict=True)
            fits = tuple(compress(found, named))
        return Answer(
            text=top[0][0],
            probability=top[0][1],
            top=top,
            attention=output.attention[row].mean(0).view(grid_size).numpy(),
            word_weights=tuple(zip(tokens, weights, strict=True)),
            unknown=tuple(dict.fromkeys(t for t in tokens if t not in self.words)),
            gaze_trust=trust,
            word_fits=fits,
        )


def _check_size(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"the vocabulary has {found} {what}, the config says {expected}")
