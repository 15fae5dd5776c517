"""ViLT and BLIP behind our own types, on small random ones that were saved to disk."""

import numpy as np
import pytest
import torch
from conftest import draw
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForQuestionAnswering,
    BlipImageProcessor,
    ViltConfig,
    ViltForQuestionAnswering,
    ViltImageProcessor,
)

import saliency
from vqa.models.transformers_answerer import TransformersAnswerer
from vqa.text import BadText

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
WORDS += ["what", "color", "is", "it", "?", "red", "blue", "yes", "no"]
ANSWERS = ["red", "blue", "yes", "no"]
PICTURE = draw("red", "square")
QUESTION = "What color is it?"


def save_vilt(folder, tokenizer):
    config = ViltConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=64,
        patch_size=16,
        id2label=dict(enumerate(ANSWERS)),
        label2id={answer: i for i, answer in enumerate(ANSWERS)},
        initializer_range=0.5,
    )
    ViltForQuestionAnswering(config).save_pretrained(folder)
    ViltImageProcessor(size={"shortest_edge": 64}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_blip(folder, tokenizer):
    text = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "encoder_hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 64,
        "bos_token_id": 5,
        "pad_token_id": 0,
        "eos_token_id": 3,
        "sep_token_id": 3,
        "initializer_range": 0.5,
    }
    vision = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "image_size": 64,
        "patch_size": 16,
        "initializer_range": 0.5,
    }
    config = BlipConfig(text_config=text, vision_config=vision)
    BlipForQuestionAnswering(config).save_pretrained(folder)
    BlipImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module", params=["vilt", "blip"])
def answerer(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("network") / request.param
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        {"vilt": save_vilt, "blip": save_blip}[request.param](folder, tokenizer)
    return TransformersAnswerer.from_pretrained(folder)


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
    scorer, names = answerer.scorer(QUESTION, pixels, k=2)
    with torch.no_grad():
        scores = scorer(pixels)
        normal = (pixels - scorer.mean) / scorer.std
        if not answerer.written:
            # Its own forward shuffles the patches, which changes nothing but the order of sums.
            own = answerer.network(input_ids=scorer.ids, pixel_values=normal).logits
            assert names == ANSWERS
            torch.testing.assert_close(scores, own, atol=1e-4, rtol=1e-4)
            return
        for place, answer in enumerate(scorer.answers):
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
        found = answerer.network.generate(scorer.ids, normal, num_beams=2, max_new_tokens=10)
        assert answerer.tokenizer.decode(found[0][1:], skip_special_tokens=True) == names[0]


def test_every_method_that_fits_explains_it(answerer):
    pixels = answerer.pixels(PICTURE)
    scorer, _ = answerer.scorer(QUESTION, pixels, k=2)
    fitting = [name for name in saliency.METHODS if saliency.explains(scorer, name)]
    assert set(saliency.METHODS) - set(fitting) == {"guided_backprop"}  # no ReLU modules
    fast = {"lime": {"samples": 30}, "smoothgrad": {"samples": 3}, "occlusion": {"window": 32}}
    for name in fitting:
        found = saliency.explain(scorer, pixels, [0, 1], name, **fast.get(name, {}))
        assert [each.map.shape for each in found] == [(64, 64)] * 2, name
        assert all(np.isfinite(each.map).all() for each in found), name
        assert np.abs(found[0].map).max() > 0 or name == "grad_cam"
    assert scorer.feature_layer is scorer.features


def test_grad_cam_reads_the_grid_and_the_picture_matters(answerer):
    pixels = answerer.pixels(PICTURE)
    scorer, _ = answerer.scorer(QUESTION, pixels, k=2)
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
        TransformersAnswerer(other, None, [0.5] * 3, [0.5] * 3)
