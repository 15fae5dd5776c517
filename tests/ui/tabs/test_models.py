"""The Models tab without a browser."""

from __future__ import annotations

import asyncio
import json
import re
import shutil

import gradio as gr
import pytest
from helpers.tiny import tiny_answerer, tiny_captioner, tiny_gaze
from helpers.toy_transformers import save

from app import create_demo
from ui.components.examples import EXAMPLES
from ui.presenters import answers, captions, conversation, explanations, model_cards
from ui.presenters import why as why_presenter
from ui.sections import why
from ui.tabs import gaze, models
from vqa import checkpoints
from vqa.checkpoints.results import measured
from vqa.engine import Engine
from vqa.pipelines import model_set
from vqa.serving.hot_swap import Loader
from vqa.tasks import ANSWER, BY_MODEL_TYPE, CAPTION

CAT = str(EXAMPLES[0].path)
SHIPPED = sorted(path.parent.name for path in checkpoints.SHIPPED.glob("*/metrics.json"))


@pytest.fixture(scope="module")
def vilt(tmp_path_factory):
    return save("vilt", tmp_path_factory.mktemp("network") / "vilt")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_is_told_with_its_size_and_its_numbers(name):
    task = BY_MODEL_TYPE[checkpoints.type_of(checkpoints.SHIPPED / name)]
    part = model_set.load(task, name)
    entry, (card, text) = model_cards.entry(part), model_cards.card(part)
    names, result = task.metrics, checkpoints.read_metrics(name)[task.key]
    assert [number["name"] for number in entry["numbers"]] == list(names.values())
    shown = [float(number["value"]) for number in entry["numbers"]]
    assert shown == pytest.approx([result["metrics"][key] for key in names], rel=1e-3)
    assert entry["where"] == f"{result['split']} split of {result['dataset']}"
    # The card's own words, of the file.
    assert f"{model_cards.millions(part):.1f} million parameters" in card.replace("\n", " ")
    assert f"{model_cards.megabytes(part):.1f} MB" in card
    assert text == ""
    assert card.lstrip().startswith("# SeeWhy")
    assert not re.search(r"\]\((?!https://)|!\[", card)


def test_a_card_that_is_not_ours_stays_text_and_is_cut_where_it_has_no_end(tmp_path):
    folder = checkpoints.save(tiny_answerer(), tmp_path / "vqa")
    part = model_set.load(ANSWER, folder)
    assert model_cards.card(part) == ("It comes without a card.", "")
    said = "# A model\n\n<img src=x onerror=alert(1)> ![](https://example.com/a.png)\n"
    (folder / "README.md").write_text(said)
    assert model_cards.card(part) == ("", said)
    (folder / "README.md").write_bytes(b"\xff" * 200_000)
    markdown, text = model_cards.card(part)
    assert markdown == ""
    assert len(text) < 51_000
    assert text.endswith("(The first 50,000 of 200,000 characters.)")


@pytest.mark.parametrize(
    "told",
    [
        "no json",
        "[]",
        '{"results": 3}',
        '{"results": [1]}',
        '{"results": {"answer": null}}',
        '{"results": {"answer": {"split": "a", "dataset": "b", "metrics": {"all": "much"}}}}',
        '{"results": {"answer": {"metrics": {"all": 1, "not yes/no": 2}}}}',
    ],
)
def test_numbers_that_are_not_told_as_ours_are_none(tmp_path, told):
    folder = checkpoints.save(tiny_answerer(), tmp_path / "vqa")
    assert measured(folder) is None
    (folder / "metrics.json").write_text(told)
    assert measured(folder) is None
    assert model_cards.entry(model_set.load(ANSWER, folder))["where"] == "No numbers came with it"


def test_a_model_of_transformers_is_called_by_its_kind(vilt):
    entry = model_cards.entry(model_set.load(ANSWER, vilt))
    assert (entry["does"], entry["numbers"]) == ("Answers questions · ViLT", [])


def test_whom_a_load_replaces_is_said_letter_by_letter(vilt, tmp_path):
    odd = shutil.copytree(vilt, tmp_path / "a <b> ${1}")
    line = models.replaced(Loader(Engine.load(odd), ["*/*"]), 0)
    assert r"\<b\> \$\{1\}" in line
    assert "which answers questions, for everybody" in line
    assert r"Allowed here: \*\/\*, 500 MB at most." in line


def built(engine, **options):
    async def build():  # without a running event loop, gradio makes some and leaves them open
        return create_demo(engine, **options)

    return asyncio.run(build())


def test_no_event_of_the_tab_is_public_and_a_load_waits_in_no_queue_of_the_model(tiny_checkpoint):
    engine = Engine.load(tiny_checkpoint)
    demo = built(engine, loader=Loader(engine, ["org/*"]))
    assert list(demo.get_api_info()["named_endpoints"]) == ["/answer", "/explain"]
    (load,) = (fn for fn in demo.fns.values() if fn.concurrency_id == "loads")
    assert load.concurrency_limit is None  # a second one is told at once, not kept waiting


def test_what_follows_a_model_adds_nothing_to_the_page(tiny_checkpoint):
    engine = Engine(tiny_answerer(), {"words": tiny_captioner()})
    ids = [block.elem_id for block in built(engine).blocks.values() if isinstance(block, gr.Radio)]
    assert sorted(ids) == ["caption-beam", "caption-model"]


def test_an_answer_of_a_model_that_is_gone_is_not_explained_by_another(vilt, tiny_checkpoint):
    engine = Engine.load(tiny_checkpoint)
    asked = conversation.reply(engine, CAT, "what color is it?").grounds.asked

    async def build():
        with gr.Blocks():
            return why.build(engine)

    section = asyncio.run(build())

    async def states(asked):
        run = why._run(section, engine, asked, why_presenter.explain, "gradient")
        return [state async for state in run]

    engine.replace(0, model_set.load(ANSWER, vilt))
    (only,) = asyncio.run(states(asked))
    assert only[section.line] == answers.REPLACED
    again = conversation.reply(engine, CAT, "what color is it?").grounds
    assert again.shades == ()  # it tells no weights of words
    assert all(section.figures[0] in state for state in asyncio.run(states(again.asked)))
    menu = why.menu(section, engine, "guided_backprop")[section.method]
    assert menu["value"] == "grad_cam"
    assert "guided_backprop" not in dict(menu["choices"]).values()


def test_what_blip_writes_is_explained_and_compared_as_any_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(
        why_presenter, "LIVE", {"lime": {"samples": 32}, "occlusion": {"window": 32}}
    )
    engine = Engine.load(save("blip", tmp_path / "blip"))
    found = conversation.reply(engine, CAT, "what color is it?").grounds
    states = []
    why_presenter.explain(engine, found.asked, "occlusion", states.append)
    top = found.asked.top[: why_presenter.TOP]
    assert states[-1].titles == tuple(explanations.title(*guess) for guess in top)
    assert len(states[-1].figures) == len(top)
    assert answers.plain(top[0][0]) in states[-1].line
    why_presenter.compare(engine, found.asked, states.append)
    assert [card["state"] in ("kept", "changed") for card in states[-1].cards] == [True] * 7
    assert states[-1].status["said"] == "7 methods compared."


def test_a_gaze_tab_without_a_gaze_model_any_more_says_so(vilt):
    engine = Engine(tiny_answerer(gaze=tiny_gaze().config, fusion="gated"))
    (look,) = (fn.fn for fn in built(engine).fns.values() if fn.name == "look")
    assert answers.plain(gaze.NO_GAZE) not in look(CAT, "").values()
    engine.replace(0, model_set.load(ANSWER, vilt))
    assert answers.plain(gaze.NO_GAZE) in look(CAT, "").values()


def test_a_captioner_that_is_replaced_keeps_its_place_in_the_menu(tmp_path):
    engine = Engine(tiny_answerer(), {"words": tiny_captioner()})
    assert captions.labels(engine) == [("LSTM", "words")]
    other = checkpoints.save(tiny_captioner(1, decoder="bilstm"), tmp_path / "other")
    told = captions.describe(engine, captions.CaptionRequest(CAT, "", "words", 1))
    engine.replace(1, model_set.load(CAPTION, other))
    assert captions.labels(engine) == [("BiLSTM", "words")]
    assert told.by() is None or told.by() is not engine.caption_pipeline("words")
    assert captions.describe(engine, captions.CaptionRequest(CAT, "", "words", 1)).caption.text


def test_numbers_of_feelings_that_are_not_told_as_ours_are_none(tiny_checkpoint, tmp_path):
    from helpers.emoji_data import FACES, tiny_emoji

    from ui.presenters.feelings import confusions

    folder = checkpoints.save(tiny_emoji(), tmp_path / "emoji")
    engine = Engine.load(tiny_checkpoint, emoji=folder)
    nothing = (None, "Nothing was measured of these labels.")
    assert confusions(engine, "face") == nothing
    entry = {"confusion": [[1, 0], [0, 1]], "labels": FACES}
    for told in (entry, entry | {"labels": FACES * 100}, {"confusion": 3, "labels": FACES}):
        (folder / "metrics.json").write_text(json.dumps({"results": {"face": told}}))
        assert confusions(engine, "face") == nothing
