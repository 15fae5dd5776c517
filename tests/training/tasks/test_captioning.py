"""What the captioner learns from: its data, and its losses against the same written plainly."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.tiny import draw, tiny_captioner, tiny_rows

from training.data.caption_set import CaptionSet, build_vocabulary, read_corpus
from training.data.extra_annotations import ANNOTATIONS
from training.tasks.captioning import CaptionLoss, SelfCritical, reward_index, targets
from training.tasks.object_loss import object_loss
from vqa.errors import BadData
from vqa.models.captioner import DECODERS, END
from vqa.preprocessing.vocabulary import Vocab


@pytest.fixture
def annotated(tiny_data, tmp_path):
    """The tiny data with more captions and objects for three of the train pictures."""
    folder = shutil.copytree(tiny_data, tmp_path / "annotated")
    notes = [
        (0, ["a red thing"], [("fruit", False), ("orange", True)]),
        (1, ["", "two things", "!"], [("orange", False)]),
        (2, [], [("fruit", None)]),
    ]
    rows = [
        {
            "image_id": image_id,
            "captions": captions,
            "objects": [{"name": name, "in_captions": where} for name, where in objects],
        }
        for image_id, captions, objects in notes
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / ANNOTATIONS)
    return folder


def samples(model, folder, split="train", **options):
    return CaptionSet(read_corpus(str(folder), split), model, **options)


def batch_of(some, count=4):
    return some.batch([(0, i) for i in range(count)])


def plainly(model, cells, batch, smoothing, temperature=1.0):
    """The loss of a batch, caption by caption and word by word."""
    total = 0.0
    for ids, owner in zip(batch["ids"], batch["owner"], strict=True):
        caption = [i for i in ids.tolist() if i != Vocab.PAD]
        for direction in range(len(model.decoders)):
            given = caption[::-1] if direction else caption
            look = model.project_image(cells[owner : owner + 1])
            output = model(look, torch.tensor([given]), torch.tensor([0]), direction)
            shares = (output.logits[0] / temperature).log_softmax(1)
            for place, word in enumerate([*given, model.end]):
                if word != Vocab.UNK:
                    spread = -shares[place].mean() * smoothing
                    total += spread - (1 - smoothing) * shares[place, word]
    return total


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_of_each_word_alone(tiny_data, decoder, smoothing):
    model = tiny_captioner(decoder=decoder)
    some = samples(model, tiny_data)
    some.ids[3][0][1] = Vocab.UNK  # to be read, and not to be learnt
    batch = batch_of(some, 5)
    assert (batch["ids"] == Vocab.UNK).sum() == 1
    with torch.no_grad():
        cells = model.encode(batch["pixels"]).cells
        expected = plainly(model, cells, batch, smoothing)
        found = CaptionLoss(model, smoothing)(batch)
    assert found.item() == pytest.approx(float(expected), rel=1e-5)
    assert int(batch["count"]) == sum(len(row) + 1 for texts in some.ids[:5] for row in texts)


def test_the_last_step_says_the_end_and_no_step_says_the_unknown_word():
    ids = torch.tensor([[5, 6, 7], [8, 0, 0], [9, Vocab.UNK, 0]])
    assert targets(ids, 2).tolist() == [[5, 6, 7, 2], [8, 2, 0, 0], [9, 0, 2, 0]]


def test_objects_are_learnt_only_from_pictures_that_somebody_looked_at(annotated):
    model = tiny_captioner()
    some = samples(model, annotated)
    assert some.objects.places == {"fruit": 0, "orange": 1}
    batch = batch_of(some, 7)
    # Picture 2 has lost its captions; 0 and 1 come last, and the orange of 0 is but a colour.
    assert batch["objects"].tolist() == [[-1, -1]] * 5 + [[0, 1], [1, 0]]
    learner = CaptionLoss(model, 0.0, object_loss(model.encoder.channels, some.objects, 3.0))
    with torch.no_grad():
        cells = model.encode(batch["pixels"]).cells
        logits = learner.objects.say(cells.mean(1))[5:]
        wanted = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        expected = -(wanted * logits.sigmoid().log() + (1 - wanted) * (1 - logits.sigmoid()).log())
        assert object_loss(model.encoder.channels, some.objects, 0.0) is None
        without = CaptionLoss(model, 0.0)
        found = learner(batch) - without(batch)
    assert found.item() == pytest.approx(3 * expected.sum().item(), rel=1e-4)
    blind = batch | {"objects": torch.full((7, 2), -1.0)}
    assert learner(blind).item() == pytest.approx(without(batch).item(), rel=1e-6)


def test_annotations_replace_the_captions_of_the_train_split_alone(annotated, tiny_data):
    train_corpus = read_corpus(str(annotated), "train")
    said = {
        row.image_id: t for row, t in zip(train_corpus.rows, train_corpus.captions, strict=True)
    }
    assert said[0] == [["a", "red", "thing"]]
    assert said[1] == [["two", "things"]]
    assert 2 not in said
    plain = read_corpus(str(tiny_data), "train")
    assert said[3] == plain.captions[4]  # they come in the order 7, 6, ...
    validation = read_corpus(str(annotated), "validation")
    assert validation.captions == read_corpus(str(tiny_data), "validation").captions
    assert set(map(str, validation.objects)) == {"None"}


def test_a_share_of_the_pictures_is_drawn_by_a_seed(tiny_data):
    def drawn(share, seed):
        corpus = read_corpus(str(tiny_data), "train", share=share, seed=seed)
        assert len(corpus.captions) == len(corpus.objects) == len(corpus.rows)
        for row, texts in zip(corpus.rows, corpus.captions, strict=True):
            assert texts[1] == row.captions[1].lower().split()  # captions stay with their picture
        return [row.image_id for row in corpus.rows]

    assert drawn(1.0, 0) == list(range(7, -1, -1))
    assert drawn(0.5, 1) == drawn(0.5, 1)
    assert len(drawn(0.5, 1)) == 4
    assert len({tuple(drawn(0.5, seed)) for seed in range(5)}) > 1
    assert len(drawn(0.01, 0)) == 1


def test_two_corpora_are_joined_picture_by_picture(tiny_data, annotated):
    both = read_corpus(str(tiny_data), "train") + read_corpus(str(annotated), "train")
    assert len(both.rows) == len(both.captions) == len(both.objects) == 8 + 7
    assert both.rows[8].image_id == 7
    assert both.objects[7:] == [None] * 6 + [{"orange"}, {"fruit"}]


def test_data_without_a_single_caption_are_refused(tmp_path):
    rows = [{"image": {"bytes": b"", "path": None}, "captions": [" . "]}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    with pytest.raises(BadData, match="split 'train': has no caption"):
        read_corpus(str(tmp_path), "train")


def test_the_vocabulary_has_the_end_and_leaves_out_what_is_rare(tiny_data):
    corpus = read_corpus(str(tiny_data), "train")
    words = build_vocabulary(corpus, 1)
    assert END in words
    assert {"red", "square", "left"} < set(words.words)
    assert "." not in words
    frequent = build_vocabulary(corpus, 8)
    assert set(frequent.words) - {*Vocab.SPECIAL, END} == {
        *("a", "there", "is", "on", "the", "left", "square", "circle")
    }


def test_what_is_too_long_or_broken_is_left_out(tmp_path, capsys):
    image = {"bytes": draw("red", "square"), "path": "a.png"}
    broken = {"bytes": b"no picture", "path": "b.png"}
    rows = [
        {"image": image, "image_id": 1, "captions": ["a red square " * 9, "a square"]},
        {"image": broken, "image_id": 2, "captions": ["a red square"]},
        {"image": image, "image_id": 3, "captions": ["a red square " * 9]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    model = tiny_captioner()
    some = samples(model, tmp_path)
    assert len(some) == 2
    batch = batch_of(some, 2)
    assert "skipped picture 2" in capsys.readouterr().err
    assert batch["pixels"].shape[0] == 1
    assert (batch["ids"] != Vocab.PAD).sum(1).tolist() == [2]
    assert batch["owner"].tolist() == [0]
    nothing = samples(model, tmp_path).batch([(0, 1)])
    for learner in (CaptionLoss(model, 0.1), critical(model, samples(model, tmp_path))):
        loss = learner.train()(nothing)
        loss.backward()
        assert loss.item() == 0


def test_a_picture_is_not_mirrored_where_a_caption_says_left_or_right(tmp_path):
    rows = tiny_rows()[:3]
    for row, captions in zip(
        rows, (["a red square"], ["a", "Left!"], ["to the right"]), strict=True
    ):
        row["captions"] = captions
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    some = samples(tiny_captioner(), tmp_path, augment=True)
    assert some.mirrors == [True, False, False]
    asked = []
    some.picture = lambda place, epoch, *, mirrors: asked.append((place, mirrors))
    batch_of(some, 3)
    assert asked == [(0, True), (1, False), (2, False)]


def critical(model, train_set, weight=1.0, count=4, **options):
    return SelfCritical(
        CaptionLoss(model, 0.0), reward_index(train_set), count=count, weight=weight, **options
    )


def test_self_critical_training_makes_captions_with_a_higher_reward_likelier(tiny_data):
    torch.manual_seed(0)
    model = tiny_captioner(dropout=0.0)
    some = samples(model, tiny_data)
    learner = critical(model, some)
    batch = batch_of(some)
    with torch.no_grad():
        batch["cells"] = model.encode(batch.pop("pixels")).cells
    bright = model.words.index["red"]
    learner._rewards = lambda ids, places: (ids == bright).any(2).float()
    optimizer = torch.optim.Adam(model.decoders.parameters(), lr=1e-2)

    def share():
        found = learner._samples(batch["cells"].repeat(50, 1, 1))
        return (found == bright).any(2).float().mean().item()

    before = share()
    for _ in range(40):
        optimizer.zero_grad()
        learner.train()(batch).backward()
        optimizer.step()
    assert share() > before + 0.3


def test_samples_are_drawn_at_the_temperature(tiny_data):
    model = tiny_captioner()
    some = samples(model, tiny_data)
    cells = batch_of(some)["pixels"]
    with torch.no_grad():
        cells = model.encode(cells).cells
    cold, warm = (
        critical(model, some, temperature=t, count=8)._samples(cells) for t in (1e-3, 1.0)
    )
    assert (cold == cold[:, :1]).all()
    assert not (warm == warm[:, :1]).all()


def test_rewards_that_are_all_equal_teach_nothing(tiny_data):
    torch.manual_seed(0)
    model = tiny_captioner()
    some = samples(model, tiny_data)
    learner = critical(model, some).train()
    learner._rewards = lambda ids, places: torch.full(ids.shape[:2], 0.7)
    loss = learner(batch_of(some))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-4)
    assert all(p.grad is None or p.grad.abs().max() < 1e-5 for p in model.parameters())


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_reward_is_cider_with_the_end_as_a_word_and_the_others_as_baseline(
    tiny_data, temperature
):
    model = tiny_captioner()
    some = samples(model, tiny_data)
    learner = critical(model, some, weight=0.25, temperature=temperature)
    words = ["a red square", "there is a red square on the left", "a red", "blue"]
    rows = [model.words.encode(text.split()) for text in words]
    ids = torch.tensor([row + [Vocab.PAD] * (8 - len(row)) for row in rows]).unsqueeze(0)
    place = next(i for i, row in enumerate(some.rows) if row.image_id == 0)
    rewards = learner._rewards(ids, torch.tensor([place]))[0]
    references = reward_index(some)
    assert rewards.tolist() == pytest.approx(
        [references.score([*text.split(), END], place) for text in words]
    )
    assert rewards[:2].min() > rewards[2] > rewards[3]
    unended = [references.score(text.split(), place) for text in words]
    assert unended[2] / unended[0] > rewards[2] / rewards[0]  # to stop too early costs more
    batch = some.batch([(0, place)])
    learner._samples = lambda cells: ids
    with torch.no_grad():
        cells = model.encode(batch["pixels"]).cells
        owner = torch.zeros(1, dtype=torch.long)
        losses = torch.stack(
            [
                plainly(model, cells, {"ids": ids[:, k], "owner": owner}, 0.0, temperature)
                for k in range(4)
            ]
        )
        others = (rewards.sum() - rewards) / 3
        gain = ((rewards - others) * losses).sum() * batch["count"] / (3 + 8 + 2 + 1 + 4)
        plain = CaptionLoss(model, 0.0)(batch)
        assert learner(batch).item() == pytest.approx(float(0.25 * gain + 0.75 * plain), rel=1e-4)
