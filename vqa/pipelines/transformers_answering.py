"""Answerers of transformers, ViLT and BLIP, behind the same plain calls as ours.

They tell no weights of words and trust no gaze, and their probabilities are not calibrated. BLIP's
answers are those that a beam search finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqa.checkpoints.files import weights_of
from vqa.checkpoints.storage import find
from vqa.errors import BadCheckpoint, BadText, one_line
from vqa.models import TRANSFORMERS, Answer
from vqa.pipelines.answering import AnswerPipeline
from vqa.preprocessing import images
from vqa.preprocessing.question_text import clean_question
from vqa.scorers.vilt_blip import BlipScorer, Lens, PictureScorer, ViltScorer

WORDS = ("tokenizer.json", "vocab.txt")  # one of them has to be there
MAX_ANSWER_TOKENS = 10  # tokens of a written answer
FEWEST = 5  # answers that are looked for at least, so that the likeliest of a few and of more agree


class TransformersAnswerPipeline(AnswerPipeline):
    """Answers questions with a model of transformers; safe to share between threads.

    Args:
        network: a `ViltForQuestionAnswering` or `BlipForQuestionAnswering`; it is put into eval
            mode, and learns no more.
        tokenizer: of its words.
        lens: of its pixels.

    Raises:
        ValueError: if the network is neither, or the tokenizer has more words than it.
    """

    network: Any

    def __init__(self, network: nn.Module, tokenizer: Any, lens: Lens) -> None:
        super().__init__()
        config: Any = network.config
        if config.model_type not in TRANSFORMERS:
            raise ValueError(f"{config.model_type} is neither vilt nor blip")
        self.text = getattr(config, "text_config", config)
        if len(tokenizer) > self.text.vocab_size:
            raise ValueError(f"{len(tokenizer)} words, the network has {self.text.vocab_size}")
        self.network = network.eval().requires_grad_(False)
        self.tokenizer, self.lens = tokenizer, lens
        self.writes = config.model_type == "blip"
        self.size = int(getattr(config, "vision_config", config).image_size)

    @classmethod
    def load(cls, name: str | Path, *, revision: str | None = None) -> TransformersAnswerPipeline:
        """Load a model, safetensors only. Tensors that it has no use for are left out.

        Args:
            name: its folder, or its Hub id.
            revision: of a Hub id: branch, tag or commit.

        Raises:
            BadCheckpoint: naming what is wrong with it, or why the Hub did not give the files.
        """
        from transformers import (
            AutoImageProcessor,
            AutoModelForVisualQuestionAnswering,
            AutoTokenizer,
        )

        folder = find(name, revision=revision)
        weights_of(folder)
        if not any((folder / file).is_file() for file in WORDS):  # transformers would do without
            raise BadCheckpoint(f"{folder}: no {' and no '.join(WORDS)}")
        here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            network, report = AutoModelForVisualQuestionAnswering.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                attn_implementation="eager",  # any other tells no weights
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # told below, in words
                **here,
            )
            processor = AutoImageProcessor.from_pretrained(folder, **here)
            tokenizer = AutoTokenizer.from_pretrained(folder, **here)
            made = cls(network, tokenizer, Lens(processor.image_mean, processor.image_std))
        except Exception as error:  # transformers raises errors of many kinds
            raise BadCheckpoint(f"{folder}: {type(error).__name__}: {one_line(error)}") from error
        problems = [f"missing tensor {name}" for name in sorted(report["missing_keys"])]
        problems += [
            f"tensor {name} is {tuple(found)}, expected {tuple(wanted)}"
            for name, found, wanted in sorted(report["mismatched_keys"])
        ]
        if problems:
            raise BadCheckpoint(f"{folder}: {'; '.join(problems[:5])}")
        return made

    def answer_pixels(self, pixels: Tensor, question: str, *, k: int = 5) -> Answer:
        """Answer one question about pixels (1, 3, S, S) in [0, 1]."""
        scorer = self._scorer(question, pixels, k)
        with self.lock, torch.inference_mode():
            scores = scorer(pixels)
            likely = scores.exp() if self.writes else scores.softmax(dim=-1)
            best = likely[0].topk(min(k, likely.shape[1]))
            attention = scorer.attention(pixels)[0, 0]
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        top = tuple((scorer.answers[i], p) for i, p in pairs)
        shown = np.asarray(attention, dtype=np.float32)
        return Answer(top[0][0], top[0][1], top, shown, word_weights=(), unknown=())

    def scorer(
        self, question: str, picture: images.Source | None = None, *, k: int = 5
    ) -> PictureScorer:
        """Score the answers; BLIP's are those that it finds for the picture."""
        return self._scorer(question, None if picture is None else self.pixels(picture), k)

    def _scorer(self, question: str, pixels: Tensor | None, k: int) -> PictureScorer:
        ids = self._ids(question)
        if not self.writes:
            labels = self.network.config.id2label
            names = [labels[number] for number in sorted(labels)]
            return ViltScorer(self.network, self.lens, ids, names).eval()
        reader = BlipScorer(self.network, self.lens, ids, (), ids[:0]).eval()
        return reader if pixels is None else self._written(reader, pixels, max(k, FEWEST))

    def _ids(self, question: str) -> Tensor:
        """A question's tokens (1, T)."""
        most = self.text.max_position_embeddings
        ids = self.tokenizer(clean_question(question), return_tensors="pt").input_ids
        if ids.shape[1] > most:
            raise BadText(
                f"The question has {ids.shape[1]} tokens and the limit is {most}: "
                "ask a shorter one."
            )
        return torch.as_tensor(ids)

    def _written(self, reader: BlipScorer, pixels: Tensor, count: int) -> BlipScorer:
        """Score the answers that BLIP writes for a picture, each answer once."""
        end = self.text.sep_token_id
        with self.lock, torch.no_grad():
            rows = self._write(reader.encode_question(pixels)[0], count, end)
        found: dict[str, list[int]] = {}
        for row in rows:
            said = row[1 : row.index(end, 1) if end in row[1:] else None]
            words = str(self.tokenizer.decode(said, skip_special_tokens=True)).strip()
            found.setdefault(words, [*said, end])  # the likelier one stays
        longest = max(map(len, found.values()))
        tokens = torch.tensor([row + [-100] * (longest - len(row)) for row in found.values()])
        return BlipScorer(self.network, self.lens, reader.ids, tuple(found), tokens).eval()

    def _write(self, question: Tensor, count: int, end: int) -> Sequence[list[int]]:
        """The likeliest answers' tokens, each after the start."""
        found = self.network.text_decoder.generate(
            input_ids=torch.full((1, 1), self.network.decoder_start_token_id),
            encoder_hidden_states=question,
            encoder_attention_mask=torch.ones(question.shape[:2], dtype=torch.long),
            eos_token_id=end,
            pad_token_id=self.text.pad_token_id,
            max_new_tokens=MAX_ANSWER_TOKENS,
            num_beams=count,
            num_return_sequences=count,
            do_sample=False,
        )
        rows: Sequence[list[int]] = found.tolist()
        return rows
