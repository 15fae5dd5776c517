"""The answerer: shapes, masks, the shared projection, the gaze prior, and that it can learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny import tiny_answerer, tiny_gaze, tiny_rows

from training.data.question_set import QuestionSet
from training.tasks.answering import AnswerLoss
from vqa import checkpoints
from vqa.data.image_dataset import ImageRecord, Question
from vqa.errors import BadText
from vqa.models import Answerer


def rows():
    out = []
    for row in tiny_rows():
        asked = [
            Question(q["question_id"], i, q["question"], q["answer"], tuple(q["answers"]), "")
            for i, q in enumerate(row["questions"])
        ]
        out.append(ImageRecord(row["image_id"], row["image"]["bytes"], tuple(asked)))
    return out


@pytest.fixture(scope="module")
def model():
    return tiny_answerer()


@pytest.fixture(scope="module")
def batch(model):
    return QuestionSet(rows(), model).batch([(0, i) for i in range(8)])


def ask(model, batch, **changes):
    batch = {**batch, **changes}
    with torch.no_grad():
        grid = model.encode(batch["pixels"])
        return model(grid.cells, batch["ids"], batch["owner"])


def test_attention_and_word_weights_are_distributions(model, batch):
    output = ask(model, batch)
    count = int(batch["count"])
    assert output.logits.shape == (count, len(model.answers))
    assert output.attention.shape == (count, model.config.glimpses, 16)
    torch.testing.assert_close(output.attention.sum(-1), torch.ones(count, 2))
    torch.testing.assert_close(output.word_weights.sum(-1), torch.ones(count))
    assert (output.word_weights[batch["ids"] == 0] == 0).all()


def test_padding_changes_nothing(model, batch):
    padded = torch.nn.functional.pad(batch["ids"], (0, 5))
    torch.testing.assert_close(
        ask(model, batch).logits, ask(model, batch, ids=padded).logits, rtol=0, atol=1e-6
    )


def test_a_batch_answers_like_its_single_questions(model, batch):
    together = ask(model, batch).logits
    for i in range(int(batch["count"])):
        owner = batch["owner"][i : i + 1]
        alone = ask(
            model,
            batch,
            pixels=batch["pixels"][owner],
            ids=batch["ids"][i : i + 1],
            owner=torch.tensor([0]),
        )
        torch.testing.assert_close(alone.logits[0], together[i], rtol=0, atol=1e-5)


GAZE = tiny_gaze().config


def test_without_a_gate_gaze_draws_the_attention_to_where_people_look(batch):
    model = tiny_answerer(gaze=GAZE, fusion="prior")
    looks = torch.zeros(8, 16)
    looks[:, 5] = 1
    drawn, flat = (see(model, batch, each) for each in (looks, even()))
    assert (drawn.attention[..., 5] > 5 * flat.attention[..., 5]).all()
    assert torch.equal(drawn.trust, torch.ones(int(batch["count"])))
    # An even gaze says nothing: as if there were none.
    model.gaze = None
    torch.testing.assert_close(see(model, batch, None).attention, flat.attention)


def test_the_question_decides_how_far_gaze_is_trusted(batch):
    torch.manual_seed(0)
    model = tiny_answerer(gaze=GAZE, fusion="gated")
    looks = torch.zeros(8, 16)
    looks[:, 5] = 1
    torch.testing.assert_close(see(model, batch, looks).trust, torch.full((24,), 0.3))
    with torch.no_grad():
        means = model.question(batch["ids"])[0].mean(0)
        model.gate.weight.copy_(torch.randn(1, 32))
        model.gate.bias.copy_(-(model.gate.weight @ means))  # about 0 on average
    found, flat = see(model, batch, looks), see(model, batch, even())
    assert {bool(t > 0) for t in found.trust} == {True, False}
    rises = (found.attention[..., 5] > flat.attention[..., 5]).all(dim=1)
    assert torch.equal(rises, found.trust > 0)  # below 0 it looks away


@pytest.mark.parametrize("fusion", ["multiply", "residual"])
def test_cells_are_weighed_by_gaze(batch, fusion):
    model = tiny_answerer(gaze=GAZE, fusion=fusion)
    looks = torch.zeros(8, 16)
    looks[:, 5] = 1
    cells = model.encode(batch["pixels"]).cells
    weighed, prior = model._apply_gaze(torch.cat([cells[..., :-1], looks.unsqueeze(-1)], dim=-1))
    assert prior is None
    away, there = (1, 17) if fusion == "residual" else (0, 16)
    torch.testing.assert_close(weighed[:, 4], away * cells[:, 4, :-1])
    torch.testing.assert_close(weighed[:, 5], there * cells[:, 5, :-1])


@pytest.mark.parametrize("size", [64, 32])
def test_the_looks_on_the_cells_are_those_of_the_gaze_model(batch, size):
    encoder = replace(GAZE.encoder, image_size=size)
    model = tiny_answerer(gaze=replace(GAZE, encoder=encoder), fusion="prior")
    grid = model.encode(batch["pixels"])
    torch.testing.assert_close(grid.cells[..., -1].sum(1), torch.ones(8))
    if size == 64:
        maps = model.gaze(batch["pixels"]).view(8, 4, 16, 4, 16).sum((2, 4))
        torch.testing.assert_close(grid.cells[..., -1], maps.flatten(1))


def test_the_control_gives_every_picture_another_ones_gaze(batch):
    model = tiny_answerer(gaze=GAZE, fusion="gated", wrong_gaze=True)
    with torch.no_grad():
        model.controls.copy_(torch.rand(64, 16))
    together = model.encode(batch["pixels"]).cells[..., -1]
    alone = torch.cat([model.encode(one[None]).cells[..., -1] for one in batch["pixels"]])
    assert torch.equal(together, alone)
    assert len(together.unique(dim=0)) > 4
    assert all((row == model.controls).all(1).any() for row in together)


def see(model, batch, looks):
    with torch.no_grad():
        cells = model.encode(batch["pixels"]).cells
        if looks is not None:
            cells = torch.cat([cells[..., :-1], looks.unsqueeze(-1)], dim=-1)
        elif model.gaze is None:
            cells = cells[..., : model.encoder.channels]
        return model(cells, batch["ids"], batch["owner"])


def even():
    return torch.full((8, 16), 1 / 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "sum"}, "fusion is 'sum'; it can be none, multiply"),
        ({"fusion": "gated"}, "a gaze model and a fusion other than none go together"),
        ({"gaze": GAZE}, "a gaze model and a fusion other than none go together"),
        ({"wrong_gaze": True}, "wrong_gaze needs a gaze model"),
        ({"gaze": GAZE, "fusion": "prior", "blind": True}, "no use for gaze"),
    ],
)
def test_settings_of_gaze_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_answerer(**options)


def test_gaze_is_saved_with_the_answerer(batch, tmp_path):
    model = checkpoints.load(
        checkpoints.save(tiny_answerer(gaze=GAZE, fusion="gated"), tmp_path / "gated")
    )
    again = checkpoints.load(checkpoints.save(model, tmp_path / "again"))
    assert again.config == model.config
    assert torch.equal(see(model, batch, None).logits, see(again, batch, None).logits)


def test_a_blind_model_never_looks_at_the_picture(batch):
    sighted = tiny_answerer()
    blind = Answerer(
        type(sighted.config)(**{**vars(sighted.config), "blind": True}),
        sighted.words,
        sighted.answers,
    ).eval()
    other = ask(blind, batch, pixels=1 - batch["pixels"])
    assert torch.equal(ask(blind, batch).logits, other.logits)
    assert not torch.equal(
        ask(sighted, batch).logits, ask(sighted, batch, pixels=1 - batch["pixels"]).logits
    )


def test_one_batch_can_be_learnt_by_heart(batch):
    torch.manual_seed(0)
    model = tiny_answerer(seed=1)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    learner = AnswerLoss(model)
    best = batch["targets"].argmax(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        learner(batch).backward()
        optimizer.step()
        if (ask(model, batch).logits.argmax(1) == best).all():
            break
    assert (ask(model, batch).logits.argmax(1) == best).float().mean() == 1.0


def test_a_description_gives_words_weights_and_a_map(model, batch):
    answer = model.describe("what color is it?", ask(model, batch), 0, (4, 4), 5)
    assert answer.text == answer.top[0][0]
    assert len(answer.top) == 5
    assert answer.top == tuple(sorted(answer.top, key=lambda pair: -pair[1]))
    assert answer.attention.shape == (4, 4)
    assert answer.attention.dtype == np.float32
    assert answer.attention.sum() == pytest.approx(1, abs=1e-5)
    assert [word for word, _ in answer.word_weights] == ["what", "color", "is", "it"]
    assert sum(weight for _, weight in answer.word_weights) == pytest.approx(1, abs=1e-5)
    assert answer.unknown == ()


def test_a_temperature_above_one_lowers_the_confidence_and_keeps_the_answer(model, batch):
    output = ask(model, batch)
    model.temperature.fill_(1.0)
    plain = model.describe("what color is it?", output, 0, (4, 4), 3)
    model.temperature.fill_(2.0)
    warm = model.describe("what color is it?", output, 0, (4, 4), 3)
    model.temperature.fill_(1.0)
    assert warm.text == plain.text
    assert warm.probability < plain.probability


@pytest.mark.parametrize("question", ["", "   ", "x" * 100_000])
def test_no_question_and_too_long_a_question_are_refused(model, question):
    with pytest.raises(BadText):
        model.question_ids(question)


def test_a_question_of_too_many_words_is_refused_with_the_limit(model):
    with pytest.raises(BadText, match="80 words and the limit is 30"):
        model.question_ids("is it a square " * 20)
