"""What can be explained: an answer of ours, and any image classifier of transformers."""

import numpy as np
import pytest
import torch
from helpers.tiny import draw, tiny_answerer
from torch import nn

from saliency.registry import METHODS, explain, explains
from saliency.types import CannotExplain
from vqa.engine import Engine
from vqa.errors import BadText
from vqa.scorers.native import AnswerScorer, ClassScorer

QUESTION = "what color is it?"


@pytest.fixture(scope="module")
def answerer():
    return tiny_answerer()


@pytest.fixture(scope="module")
def pixels():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_an_answer_s_scores_are_the_model_s_logits(answerer, pixels):
    scorer = AnswerScorer(answerer, QUESTION)
    ids = torch.tensor([answerer.question_ids(QUESTION)] * 2)
    with torch.no_grad():
        expected = answerer(answerer.encode(pixels).cells, ids, torch.arange(2))
        assert torch.allclose(scorer(pixels), expected.logits, atol=1e-5)
        attention = scorer.attention(pixels)
    assert attention.shape == (2, 1, 4, 4)
    assert torch.allclose(attention.flatten(1), expected.attention.mean(1), atol=1e-6)


def test_an_answer_s_probabilities_and_attention_are_those_of_the_engine(answerer):
    engine, picture = Engine(answerer), draw("red", "circle")
    answer, scorer = engine.answer(picture, QUESTION), engine.scorer(QUESTION)
    with torch.no_grad():
        chances = scorer.probabilities(scorer(engine.pixels(picture)))[0]
        attention = scorer.attention(engine.pixels(picture))[0, 0]
    assert float(chances.max()) == pytest.approx(answer.probability, rel=1e-5)
    assert np.allclose(attention.numpy(), answer.attention, atol=1e-6)


def test_a_question_that_cannot_be_asked_has_no_scorer(answerer):
    with pytest.raises(BadText, match="empty"):
        AnswerScorer(answerer, " ")


def test_the_question_s_words_cost_no_gradient(pixels):
    scorer = AnswerScorer(tiny_answerer(), QUESTION)
    words = list(scorer.answerer.question.parameters())
    needed = torch.autograd.grad(scorer(pixels).sum(), words, allow_unused=True)
    assert all(gradient is None for gradient in needed)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_explains_an_answer(answerer, method):
    few = {"lime": {"samples": 20}, "smoothgrad": {"samples": 2}, "occlusion": {"window": 32}}
    engine = Engine(answerer)
    found = engine.explain(
        draw("red", "square"), QUESTION, method=method, k=2, **few.get(method, {})
    )
    top = engine.answer(draw("red", "square"), QUESTION).top
    assert [e.label for e in found] == [text for text, _ in top[:2]]
    assert found[0].map.shape == (64, 64)
    assert found[0].score > found[1].score


def classifier(kind):
    """A random classifier of transformers, as small as it gets."""
    from transformers import AutoConfig, AutoModelForImageClassification

    small = {
        "resnet": {"layer_type": "basic", "depths": [1, 1], "hidden_sizes": [8, 16],
                   "embedding_size": 8},
        "mobilenet_v2": {"depth_multiplier": 0.25},
        "convnext": {"depths": [1, 1], "hidden_sizes": [8, 16], "num_stages": 2},
        "vit": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                "intermediate_size": 16, "image_size": 64},
    }[kind]  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, num_labels=3, **small)
        return AutoModelForImageClassification.from_config(config).eval()


@pytest.mark.parametrize("kind", ["resnet", "mobilenet_v2", "convnext"])
def test_grad_cam_finds_the_last_feature_maps_of_a_classifier(kind):
    scorer = ClassScorer(classifier(kind), image_size=64)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        base = scorer.network.base_model(pixels, return_dict=True)
    (cells,) = explain(scorer, pixels, [1], "grad_cam", enlarge=False)
    assert cells.map.shape == tuple(base.last_hidden_state.shape[2:])
    with torch.no_grad():
        assert torch.equal(scorer(pixels), scorer.network(pixels).logits)


def test_a_vision_transformer_has_no_feature_maps_and_says_so():
    scorer = ClassScorer(classifier("vit"), image_size=64)
    assert not explains(scorer, "grad_cam")
    assert explains(scorer, "gradient")
    pixels = torch.rand(1, 3, 64, 64)
    assert np.abs(explain(scorer, pixels, [0], "gradient")[0].map).sum() > 0
    with pytest.raises(CannotExplain, match="feature_layer"):
        explain(scorer, pixels, [0], "grad_cam")


def test_a_classifier_is_read_with_its_own_normalisation_and_labels(tmp_path):
    from transformers import ViTImageProcessor

    network = classifier("resnet")
    network.config.id2label = {0: "cat", 1: "dog", 2: "car"}
    network.save_pretrained(tmp_path)
    ViTImageProcessor(
        image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6], size={"height": 64, "width": 64}
    ).save_pretrained(tmp_path)
    scorer = ClassScorer.from_pretrained(tmp_path)
    assert scorer.labels == ("cat", "dog", "car")
    assert scorer.image_size == 64
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    normalised = (pixels - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    with torch.no_grad():
        assert torch.allclose(scorer(pixels), network(normalised).logits, atol=1e-6)


def test_a_plain_network_is_a_classifier_and_keeps_its_training_flags():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.Flatten(), nn.Linear(4 * 900, 2))
    network.train()
    network[1].eval()
    scorer = ClassScorer(network, image_size=32)
    assert [m.training for m in network] == [True, False, True, True]
    assert scorer.feature_layer is network[1]
    assert all(not m._forward_hooks for m in scorer.modules())
