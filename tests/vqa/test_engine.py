"""The engine: a picture is encoded once, and answers do not depend on who asks beside."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers.tiny import draw, tiny_answerer
from PIL import Image

from vqa.engine import Engine
from vqa.errors import BadCheckpoint, BadImage, BadText
from vqa.models.encoder import Grid
from vqa.pipelines.feature_cache import FeatureCache

QUESTION = "what color is it?"


@pytest.fixture
def engine():
    return Engine(tiny_answerer())


def count_encodings(engine):
    calls = []
    engine.answerer.encoder.network.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_a_second_question_on_a_picture_does_not_encode_it_again(engine):
    calls = count_encodings(engine)
    first = engine.answer(draw("red", "square"), QUESTION)
    engine.answer(draw("red", "square"), "is it a square?")
    assert len(calls) == 1
    again = engine.answer(draw("red", "square"), QUESTION)
    assert again.top == first.top
    engine.answer(draw("blue", "square"), QUESTION)
    assert len(calls) == 2


def test_every_kind_of_source_gives_the_same_answer(engine, tmp_path):
    content = draw("green", "circle")
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    picture = Image.open(io.BytesIO(content))
    sources = [path, str(path), content, io.BytesIO(content), picture, np.asarray(picture)]
    assert len({engine.answer(source, QUESTION).top for source in sources}) == 1


def test_a_batch_answers_like_single_calls(engine):
    pictures = [draw("red", "square"), draw("blue", "circle"), draw("yellow", "square")]
    questions = [[QUESTION], [], ["is it a square?", "how many shapes are there?"]]
    batch = engine.answer_batch(pictures, questions)
    assert [len(answers) for answers in batch] == [1, 0, 2]
    for picture, asked, answers in zip(pictures, questions, batch, strict=True):
        for question, answer in zip(asked, answers, strict=True):
            single = engine.answer(picture, question)
            assert answer.text == single.text
            assert answer.probability == pytest.approx(single.probability, abs=1e-5)


def test_no_question_at_all_gives_no_answer(engine):
    assert engine.answer_batch([draw("red", "square")], [[]]) == [[]]


def test_threads_get_the_answers_of_a_single_thread(engine):
    jobs = [(draw(c, s), QUESTION) for c in ("red", "blue") for s in ("square", "circle")] * 4
    alone = [engine.answer(*job).top for job in jobs]
    barrier = threading.Barrier(8)

    def ask(job):
        barrier.wait(timeout=60)
        return Engine.answer(fresh, *job).top

    fresh = Engine(tiny_answerer())
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, jobs)) == alone


def test_the_cache_is_bounded_by_bytes_and_drops_what_was_not_used_longest():
    grid = Grid(torch.zeros(1, 4, 8), 2, 2)
    cache = FeatureCache(3 * grid.cells.nbytes)
    for key in "abc":
        cache.put(key, grid)
    assert cache.get("a") is grid
    cache.put("d", grid)
    assert cache.get("b") is None
    assert all(cache.get(key) is grid for key in "acd")


def test_a_grid_larger_than_the_cache_is_not_kept():
    cache = FeatureCache(10)
    cache.put("a", Grid(torch.zeros(1, 4, 8), 2, 2))
    assert cache.get("a") is None


def test_a_question_without_a_known_word_is_answered_and_its_words_are_named(engine):
    answer = engine.answer(draw("red", "square"), "quo vadis, domine?")
    assert answer.unknown == ("quo", "vadis", "domine")
    assert answer.text in engine.answerer.answers


def test_known_words_are_not_called_unknown(engine):
    assert engine.answer(draw("red", "square"), QUESTION).unknown == ()


@pytest.mark.parametrize(
    ("picture", "question", "error"),
    [
        (b"", QUESTION, BadImage),
        (b"no picture", QUESTION, BadImage),
        (draw("red", "square"), "", BadText),
        (draw("red", "square"), "x" * 100_000, BadText),
    ],
)
def test_bad_input_raises_and_the_engine_goes_on(engine, picture, question, error):
    with pytest.raises(error):
        engine.answer(picture, question)
    assert engine.answer(draw("red", "square"), QUESTION).text


def test_k_limits_the_list_of_answers(engine):
    assert len(engine.answer(draw("red", "square"), QUESTION, k=3).top) == 3
    assert len(engine.answer(draw("red", "square"), QUESTION, k=100).top) == 8


def test_a_saved_model_answers_through_the_engine(tiny_checkpoint):
    loaded = Engine.load(tiny_checkpoint)
    assert loaded.answer(draw("red", "square"), QUESTION).text in loaded.answerer.answers
    with pytest.raises(BadCheckpoint):
        Engine.load("no-such-model")


def test_an_explanation_is_of_the_top_answer_unless_another_is_named(engine):
    picture = draw("red", "square")
    top = [text for text, _ in engine.answer(picture, QUESTION).top]
    (first,) = engine.explain(picture, QUESTION)
    assert (first.label, first.method) == (top[0], "grad_cam")
    assert engine.answerer.answers[first.target] == top[0]
    (third,) = engine.explain(picture, QUESTION, f"The {top[2].title()}.", "gradient")
    assert third.label == top[2]
    three = engine.explain(picture, QUESTION, method="gradient", k=3)
    assert [e.label for e in three] == top[:3]
    assert np.allclose(three[2].map, third.map, rtol=1e-5)


def test_an_answer_that_the_model_does_not_know_cannot_be_explained(engine):
    with pytest.raises(BadText, match='"zebra" is none of the 8 answers'):
        engine.explain(draw("red", "square"), QUESTION, "zebra")
    with pytest.raises(ValueError, match="one map, not 3"):
        engine.explain(draw("red", "square"), QUESTION, "red", k=3)


def test_an_explanation_asked_for_in_inference_mode_is_the_same(engine):
    picture = draw("blue", "circle")
    (expected,) = engine.explain(picture, QUESTION, method="gradient")
    with torch.inference_mode():
        (found,) = engine.explain(picture, QUESTION, method="gradient")
    assert np.array_equal(found.map, expected.map)


def test_questions_are_answered_alike_while_another_thread_explains(engine):
    picture = draw("green", "square")
    expected = engine.answer(picture, QUESTION).top
    with ThreadPoolExecutor(4) as pool:
        explained = [pool.submit(engine.explain, picture, QUESTION, k=2) for _ in range(6)]
        answered = [pool.submit(engine.answer, picture, QUESTION) for _ in range(20)]
        maps = [job.result()[0].map for job in explained]
    assert all(job.result().top == expected for job in answered)
    assert all(np.array_equal(found, maps[0]) for found in maps)


def test_progress_may_ask_the_engine_itself(engine):
    picture, seen = draw("green", "square"), []

    def progress(done, total):
        seen.append((done, total, engine.answer(picture, QUESTION).text))

    engine.explain(picture, QUESTION, method="smoothgrad", samples=3, progress=progress)
    assert seen[-1][:2] == (3, 3)


def test_covering_what_an_explanation_marks_is_told_in_answers(engine):
    picture = draw("red", "square")
    (found,) = engine.explain(picture, QUESTION, method="attention")
    covered = engine.counterfactual(picture, QUESTION, found, fraction=0.5)
    answer = engine.answer(picture, QUESTION)
    assert covered.label_before == engine.answerer.answers[covered.before] == answer.text
    assert covered.label_after == engine.answerer.answers[covered.after]
    assert covered.probability_before == pytest.approx(answer.probability, rel=1e-4)
    assert covered.mask.shape == found.map.shape
    assert covered.mask.mean() == covered.fraction == 0.5
    outside = torch.from_numpy(~covered.mask)
    assert torch.equal(covered.pixels[..., outside], engine.pixels(picture)[..., outside])
    with torch.no_grad():
        scores = engine.scorer(QUESTION)(covered.pixels)[0]
    assert int(scores.argmax()) == covered.after
