r"""Train the model of feelings.

    python -m training.train_emoji --output_dir runs/emoji --data \
        emoji=../shared/data/tweeteval,emotion=../shared/data/tweeteval,goemotions=../shared/data/goemotions,emojify=../shared/data/emojify

or with data of the Hub, of which the configuration of that name is taken, if there is one:
`--data emoji=cardiffnlp/tweet_eval,goemotions=google-research-datasets/go_emotions`.

Each set of labels gets a head of its name; all are learnt together, and a linear part is fitted and
added at the end. A set without a validation split is learnt from, but not measured. Run the same
command again to resume; on several processes run it under
`torchrun --nproc_per_node N -m training.train_emoji ...`. States and TensorBoard logs are in
`<output_dir>.state`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from training.core.config import BadSettings, LoopConfig, flag
from training.core.loop import fit
from training.core.run import Run, command
from training.data.text_set import TextSet
from training.tasks.answering import TEMPERATURES
from training.tasks.emoji import EmojiLoss, EmojiTask, guesses
from training.tasks.linear_head import add_linear
from vqa import checkpoints
from vqa.data.text_dataset import Texts, open_texts, sets_of
from vqa.errors import BadData
from vqa.models import EmojiConfig, EmojiModel
from vqa.preprocessing.tweet_tokenizer import tokenize
from vqa.preprocessing.vocabulary import Vocab


@dataclass(frozen=True)
class TrainConfig(LoopConfig):
    """Every setting of a training; each is a flag of the same name."""

    epochs: int = flag(8, "as many texts as there are, each")
    lr: float = flag(2e-3, "learning rate")
    word_dim: int = flag(128, "of words and of character n-grams")
    buckets: int = flag(32768, "character n-grams are hashed into so many")
    linear_c: float = flag(
        0.3, "of the linear part: the larger, the less it is regularised; 0: none"
    )
    linear_min_count: int = flag(2, "texts that have a word or a pair of words it knows")
    hidden_dim: int = flag(160, "LSTM state, a direction")
    dropout: float = flag(0.5, "on words, states and the heads' input")
    word_dropout: float = flag(0.1, "share of the words that are not seen in training")
    smoothing: float = flag(0.05, "label smoothing")
    power: float = flag(0.7, "a set's share of an epoch is like its size to this power")
    measured: str = flag("emoji,emotion", "heads whose mean macro-F1 chooses the checkpoint")
    word_min_count: int = flag(3, "rarer words are known by their characters alone")

    def __post_init__(self) -> None:
        if self.start:
            raise BadSettings("a model of feelings always begins anew: leave start out")


def build(config: TrainConfig, learnt: Mapping[str, Texts]) -> EmojiModel:
    """A fresh model for the texts and their labels.

    Raises:
        BadData: if a set has fewer than two different labels.
    """
    labels = {}
    for head, texts in learnt.items():
        kinds = {label for row in texts for label in row.labels}
        if len(kinds) < 2:
            raise BadData(
                f"{head}: has {len(kinds)} different labels, and two are needed to tell them apart"
            )
        if unlabelled := sum(not row.labels for row in texts):
            print(f"{head}: {unlabelled} texts without a label are left out", file=sys.stderr)
        count = 1 + max((label for row in texts for label in row.labels), default=-1)
        labels[head] = texts.names or tuple(map(texts.name_of, range(count)))
    spelt = ([t.spelling for t in tokenize(row.text)] for texts in learnt.values() for row in texts)
    words = Vocab.build(spelt, config.word_min_count)
    kept = ("word_dim", "buckets", "hidden_dim", "dropout", "word_dropout")
    heads = {head: len(names) for head, names in labels.items()}
    sizes = {name: getattr(config, name) for name in kept}
    return EmojiModel(EmojiConfig(len(words), heads, **sizes), words, labels)


def train(config: TrainConfig) -> Path:
    """Train, calibrate and save.

    Returns:
        The checkpoint's directory, `config.output_dir`.

    Raises:
        BadData: if the data cannot be read.
        TrainingDiverged: if the loss becomes NaN or infinite.
        OtherSettings: if states of a run with other settings are there.
    """
    run = Run.begin(config, "emoji")
    (learnt, validation), model = run.prepare(
        lambda: _read(config), lambda read: build(config, read[0])
    )
    measured = [head for head in config.measured.split(",") if head in validation]
    if not measured:
        raise BadSettings(f"measured is {config.measured!r}; there are: {', '.join(validation)}")
    texts = TextSet(learnt, model, power=config.power, seed=config.seed)
    task = EmojiTask(
        model,
        EmojiLoss(model, texts, config.smoothing),
        train=texts,
        validation=TextSet(validation, model),
        groups=[
            {"params": model.parameters(), "lr": config.lr, "weight_decay": config.weight_decay}
        ],
        accelerator=run.accelerator,
        best=run.work / "best",
        measured=measured,
    )
    progress = fit(task, config.schedule(config.epochs), run.accelerator, run.work / "states")
    best = checkpoints.load_as(EmojiModel, task.best)
    held = TextSet(validation, best)
    if config.linear_c:
        count = config.linear_min_count
        best = add_linear(best, texts, held, c=config.linear_c, min_count=count)
        checkpoints.to_storage_precision(best)
    calibrate(best, held, validation)
    return run.end(best, progress.cpu_seconds)


@torch.no_grad()
def calibrate(model: EmojiModel, texts: TextSet, heads: Iterable[str]) -> None:
    """Give some heads the temperature that makes the texts' labels likeliest."""
    model.eval()
    for head in heads:
        logits, targets = guesses(model, texts, head)
        losses = [-(targets * (logits / t).log_softmax(-1)).sum() for t in TEMPERATURES]
        model.temperatures[head].fill_(TEMPERATURES[torch.stack(losses).argmin()])


def _read(config: TrainConfig) -> tuple[dict[str, Texts], dict[str, Texts]]:
    """Training and validation texts of each head."""
    folders = sets_of(config.data)
    learnt = {head: open_texts(folder, "train", head) for head, folder in folders.items()}
    validation = {}
    for head, folder in folders.items():
        try:
            found = open_texts(folder, "validation", head)
        except BadData as error:
            print(f"{head} is not measured: {error}")
            continue
        if list(found) == list(learnt[head]):
            raise BadData(f"{folder}: has no splits of its own; put train and validation apart")
        validation[head] = found
    return learnt, validation


if __name__ == "__main__":
    command(TrainConfig, train)
