"""The answerer: shapes, masks, the shared projection, the gaze prior, and that it can learn."""

import numpy as np
import pytest
import torch
from conftest import tiny_answerer, tiny_rows

from training.answer_task import AnswerLoss
from training.data import QuestionSet
from vqa.models import Answerer
from vqa.rows import Question, Row
from vqa.text import BadText


def rows():
    out = []
    for row in tiny_rows():
        asked = [
            Question(q["question_id"], i, q["question"], q["answer"], tuple(q["answers"]), "")
            for i, q in enumerate(row["questions"])
        ]
        out.append(Row(row["image_id"], row["image"]["bytes"], tuple(asked)))
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
        return model(grid.cells, batch["ids"], batch["owner"], batch.get("gaze"))


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


def test_a_gaze_prior_draws_the_attention_to_where_people_look(model, batch):
    gaze = torch.zeros(8, 16)
    gaze[:, 5] = 1
    without, with_gaze = ask(model, batch), ask(model, batch, gaze=gaze)
    assert (with_gaze.attention[..., 5] > 5 * without.attention[..., 5]).all()
    flat = ask(model, batch, gaze=torch.full((8, 16), 1 / 16))
    torch.testing.assert_close(flat.attention, without.attention)


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
