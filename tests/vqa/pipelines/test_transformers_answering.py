"""ViLT and BLIP behind our own types, on small random ones that were saved to disk."""

import json
import shutil

import numpy as np
import pytest
import torch
from helpers.docs import API
from helpers.tiny import draw
from helpers.toy_transformers import ANSWERS, save
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForVisualQuestionAnswering, ViltConfig

import saliency
from saliency import NoEvidence
from vqa import BadCheckpoint, Engine, checkpoints
from vqa.errors import BadText
from vqa.models import Captioner
from vqa.pipelines.transformers_answering import TransformersAnswerPipeline
from vqa.scorers.vilt_blip import Lens

PICTURE = draw("red", "square")
QUESTION = "What color is it?"
FAST = {"lime": {"samples": 30}, "smoothgrad": {"samples": 3}, "occlusion": {"window": 32}}


@pytest.fixture(scope="module", params=["vilt", "blip"])
def folder(request, tmp_path_factory):
    return save(request.param, tmp_path_factory.mktemp("network") / request.param)


@pytest.fixture(scope="module")
def answerer(folder):
    return TransformersAnswerPipeline.load(folder)


@pytest.fixture(scope="module")
def engine(folder):
    return Engine.load(folder)


def test_it_answers_in_our_own_type(answerer):
    found = answerer.answer(PICTURE, QUESTION, k=3)
    assert len(found.top) == 3
    assert found.text == found.top[0][0]
    assert found.probability == found.top[0][1] >= found.top[1][1] > 0
    assert found.attention.shape == (4, 4)
    assert found.attention.dtype == np.float32
    assert found.attention.sum() == pytest.approx(1, abs=1e-5)
    other = answerer.answer(draw("blue", "circle"), QUESTION, k=3)
    assert other.probability != found.probability
    with pytest.raises(BadText):
        answerer.answer(PICTURE, " ")


def test_the_scores_are_the_networks_own(answerer):
    pixels = answerer.pixels(PICTURE)
    scorer = answerer.scorer(QUESTION, PICTURE, k=2)
    with torch.no_grad():
        scores = scorer(pixels)
        normal = (pixels - scorer.mean) / scorer.std
        if not answerer.writes:
            # Its own forward shuffles the patches, which changes nothing but the order of sums.
            own = answerer.network(input_ids=scorer.ids, pixel_values=normal).logits
            assert scorer.answers == ANSWERS
            torch.testing.assert_close(scores, own, atol=1e-4, rtol=1e-4)
            return
        for place, answer in enumerate(scorer.tokens):
            row = answer[answer >= 0]
            begun = torch.cat([torch.tensor([5]), row[:-1]])[None]
            vision = answerer.network.vision_model(pixel_values=normal)[0]
            ones = torch.ones(vision.shape[:2])
            read = answerer.network.text_encoder(
                input_ids=scorer.ids, encoder_hidden_states=vision, encoder_attention_mask=ones
            )[0]
            logits = answerer.network.text_decoder(input_ids=begun, encoder_hidden_states=read)
            each = logits.logits[0].log_softmax(-1)[range(len(row)), row]
            torch.testing.assert_close(scores[0, place], each.sum())
        found = answerer.network.generate(scorer.ids, normal, num_beams=5, max_new_tokens=10)
        assert (
            answerer.tokenizer.decode(found[0][1:], skip_special_tokens=True) == scorer.answers[0]
        )


def test_every_method_that_fits_explains_it(answerer):
    pixels = answerer.pixels(PICTURE)
    scorer = answerer.scorer(QUESTION, PICTURE, k=2)
    fitting = [name for name in saliency.METHODS if saliency.explains(scorer, name)]
    assert set(saliency.METHODS) - set(fitting) == {"guided_backprop"}  # no ReLU modules
    for name in fitting:
        found = saliency.explain(scorer, pixels, [0, 1], name, **FAST.get(name, {}))
        assert [each.map.shape for each in found] == [(64, 64)] * 2, name
        assert all(np.isfinite(each.map).all() for each in found), name
        assert np.abs(found[0].map).max() > 0 or name == "grad_cam"
    assert scorer.feature_layer is scorer.features


def test_grad_cam_reads_the_grid_and_the_picture_matters(answerer):
    pixels = answerer.pixels(PICTURE)
    scorer = answerer.scorer(QUESTION, PICTURE, k=2)
    seen = []
    handle = scorer.features.register_forward_hook(lambda *given: seen.append(given[2].shape))
    with torch.no_grad():
        scorer(pixels)
    handle.remove()
    assert seen == [torch.Size([1, 16, 4, 4])]
    (found,) = saliency.explain(scorer, pixels, [0], "gradient")
    assert found.map.max() > 0


def test_another_network_is_refused():
    class Other(torch.nn.Module):
        config = ViltConfig()

    other = Other()
    other.config.model_type = "pix2struct"
    with pytest.raises(ValueError, match="pix2struct is neither vilt nor blip"):
        TransformersAnswerPipeline(other, None, Lens([0.5] * 3, [0.5] * 3))


def test_the_engine_answers_with_it_one_by_one_and_in_bulk(engine, answerer):
    found = engine.answer(PICTURE, QUESTION)
    assert found.top == answerer.answer(PICTURE, QUESTION).top
    assert (found.word_weights, found.unknown, found.gaze_trust) == ((), (), None)
    other = draw("blue", "circle")
    batch = engine.answer_batch([PICTURE, other], [[QUESTION], [QUESTION, "is it red?"]])
    assert [[each.text for each in row] for row in batch] == [
        [found.text],
        [engine.answer(other, QUESTION).text, engine.answer(other, "is it red?").text],
    ]
    assert engine.gaze_pipeline is None
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        engine.answer_batch([PICTURE, other], [[QUESTION]])


def test_what_it_says_to_a_hidden_part_is_what_it_says_to_the_covered_pixels(engine):
    hidden = np.eye(4)
    found = engine.what_if(PICTURE, QUESTION, hidden)
    assert found.share == 0.25
    assert found.before.top == engine.answer(PICTURE, QUESTION).top
    assert found.after.top == engine.answer_pipeline.answer_pixels(found.pixels, QUESTION).top
    assert found.after.top != found.before.top


@pytest.mark.parametrize("method", saliency.METHODS)
def test_the_engine_explains_its_likeliest_answers_by_every_method_that_fits(engine, method):
    scorer = engine.scorer(QUESTION)
    if not saliency.explains(scorer, method):
        with pytest.raises(saliency.CannotExplain):
            engine.explain(PICTURE, QUESTION, method=method)
        return
    top = [text for text, _ in engine.answer(PICTURE, QUESTION).top]
    found = engine.explain(PICTURE, QUESTION, method=method, k=3, **FAST.get(method, {}))
    assert [each.label for each in found] == top[:3]
    named = engine.explain(PICTURE, QUESTION, top[1], method, **FAST.get(method, {}))
    assert named[0].label == top[1]
    np.testing.assert_allclose(named[0].map, found[1].map, rtol=1e-4, atol=1e-6)
    try:
        check = engine.counterfactual(PICTURE, QUESTION, found[0], fraction=0.25)
    except NoEvidence:
        assert found[0].map.max() <= 0
        return
    assert check.label_before == top[0]
    assert check.label_after in engine.scorer(QUESTION, PICTURE).answers


def test_an_answer_that_it_does_not_have_cannot_be_explained(engine):
    with pytest.raises(BadText, match='"zebra" is none of the'):
        engine.explain(PICTURE, QUESTION, "zebra")


def test_a_question_of_more_tokens_than_it_reads_is_refused(engine):
    with pytest.raises(BadText, match=r"202 tokens and the limit is \d+: ask a shorter one"):
        engine.answer(PICTURE, "is " * 200)


def broken(folder, tmp_path, how):
    """A copy of a model with one thing wrong."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    weights, config = copy / "model.safetensors", json.loads((copy / "config.json").read_text())
    match how:
        case "pickle":
            weights.rename(copy / "pytorch_model.bin")
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "missing":
            tensors = load_file(weights)
            tensors.pop(min(name for name in tensors if "LayerNorm" in name))
            save_file(tensors, weights, metadata={"format": "pt"})
        case "words":
            for name in ("tokenizer.json", "vocab.txt"):
                (copy / name).unlink()
        case "more words":
            told = json.loads((copy / "tokenizer.json").read_text())
            told["model"]["vocab"]["zebra"] = 16
            (copy / "tokenizer.json").write_text(json.dumps(told))
        case "size":
            config.get("text_config", config)["hidden_size"] = 32
        case "type":
            config["model_type"] = "bert"
        case "config":
            config = []
    (copy / "config.json").write_text(json.dumps(config))
    return copy


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("pickle", "no model.safetensors; pytorch_model.bin is refused: pickles run code"),
        ("truncated", "incomplete metadata"),
        ("missing", "missing tensor "),
        ("words", "no tokenizer.json and no vocab.txt"),
        ("more words", "17 words, the network has 16"),
        ("size", ",), expected ("),
        ("type", "model_type 'bert' is none of"),
        ("config", "config.json: not a JSON object"),
    ],
)
def test_what_cannot_be_loaded_is_told_in_one_line(folder, tmp_path, how, words):
    with pytest.raises(BadCheckpoint) as caught:
        Engine.load(broken(folder, tmp_path, how))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_is_no_model_of_another_kind(folder, tiny_checkpoint):
    with pytest.raises(BadCheckpoint, match="of transformers, which only answers"):
        checkpoints.load_as(Captioner, folder)
    with pytest.raises(BadCheckpoint, match="which only answers"):
        Engine.load(tiny_checkpoint, gaze=folder)


def test_transformers_refuses_our_own_models_by_name_as_the_readme_says(tiny_checkpoint):
    with pytest.raises(ValueError, match="has model type `answerer` but Transformers does not"):
        AutoModel.from_pretrained(tiny_checkpoint)
    assert "`AutoModel` refuses our folders" in API


def test_a_tensor_that_is_missing_is_made_up_by_transformers_and_refused_by_us(tmp_path):
    folder = save("vilt", tmp_path / "vilt")
    tensors = load_file(folder / "model.safetensors")
    del tensors["classifier.3.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert AutoModelForVisualQuestionAnswering.from_pretrained(folder)  # with random weights
    with pytest.raises(BadCheckpoint, match=r"missing .*classifier\.3\.weight"):
        TransformersAnswerPipeline.load(folder)
