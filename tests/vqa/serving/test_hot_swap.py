"""Models replaced by others of the Hub while an engine is in use, over HTTP from a small Hub."""

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.emoji_data import tiny_emoji, write
from helpers.hub_models import fetched
from helpers.hub_server import Fault
from helpers.tiny import draw, tiny_answerer, tiny_captioner, tiny_gaze
from helpers.toy_transformers import save

from saliency.types import Cancelled
from vqa import checkpoints
from vqa.engine import Engine
from vqa.errors import BadCheckpoint
from vqa.pipelines import model_set
from vqa.pipelines.nearest_texts import Neighbours, open_sentences
from vqa.serving.hot_swap import Loader
from vqa.tasks import ANSWER

PICTURE = draw("red", "square")
QUESTION = "what color is it?"
ANSWERS, DESCRIBES, LOOKS, FEELS = range(4)  # places of the parts


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What the engine begins with, and another model of each kind."""
    root = tmp_path_factory.mktemp("models")
    made = {
        "vqa": checkpoints.save(tiny_answerer(), root / "vqa"),
        "captioner": checkpoints.save(tiny_captioner(), root / "captioner"),
        "gaze": checkpoints.save(tiny_gaze(), root / "gaze"),
        "emoji": checkpoints.save(tiny_emoji(), root / "emoji"),
        "other-vqa": checkpoints.save(tiny_answerer(1), root / "other-vqa"),
        "other-captioner": checkpoints.save(
            tiny_captioner(1, decoder="bilstm"), root / "other-captioner"
        ),
        "other-gaze": checkpoints.save(tiny_gaze(1), root / "other-gaze"),
        "other-emoji": checkpoints.save(tiny_emoji(1), root / "other-emoji"),
    }
    return made | {kind: save(kind, root / kind) for kind in ("vilt", "blip")}


@pytest.fixture(scope="module")
def first(folders):
    vqa, gaze, feelings = (folders[kind] for kind in ("vqa", "gaze", "emoji"))
    return Engine.load(vqa, [folders["captioner"]], gaze, feelings).parts


@pytest.fixture
def engine(first):
    return Engine.of(first)


@pytest.fixture
def loader(engine):
    return Loader(engine, ["org/*", "lab/vilt"])


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def publish(hub, folder, repo_id):
    hub.create(repo_id).commit(files(folder))


def load(loader, name, place=ANSWERS):
    told = []
    loader.load(place, name, lambda *news: told.append(news))
    return told


def refusal(loader, name, place=ANSWERS):
    """Why a model is not loaded, in one line; the old ones stay."""
    before = loader.engine.parts
    with pytest.raises(BadCheckpoint) as caught:
        load(loader, name, place)
    assert loader.engine.parts == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["other-vqa", "vilt", "blip"])
def test_an_allowed_model_answers_bit_for_bit_like_its_folder(hub, loader, folders, kind):
    publish(hub, folders[kind], "org/other")
    before = loader.engine.answer(PICTURE, QUESTION).top
    told = load(loader, " org/other ")
    now, there = loader.engine, Engine.load(folders[kind])
    found = now.answer(PICTURE, QUESTION)
    assert found.top == there.answer(PICTURE, QUESTION).top != before
    assert np.array_equal(found.attention, there.answer(PICTURE, QUESTION).attention)
    (why,) = now.explain(PICTURE, QUESTION, method="gradient")
    assert np.array_equal(why.map, there.explain(PICTURE, QUESTION, method="gradient")[0].map)
    assert (now.parts[ANSWERS].name, now.changes) == ("org/other", 1)
    assert [news[0] for news in told[:1] + told[-1:]] == ["Asking the Hub", "Loading it"]
    assert any(news[0].startswith("Downloading ") for news in told)


def test_every_kind_can_be_replaced_and_the_others_stay(hub, loader, folders, tmp_path):
    engine = loader.engine
    loader.neighbours = Neighbours(
        engine.emoji_pipeline, open_sentences(f"face={write(tmp_path / 't')}")
    )
    first = engine.parts
    for place, kind in ((DESCRIBES, "captioner"), (LOOKS, "gaze"), (FEELS, "emoji")):
        publish(hub, folders[f"other-{kind}"], f"org/{kind}")
        load(loader, f"org/{kind}", place)
    other = {kind: folders[f"other-{kind}"] for kind in ("captioner", "gaze", "emoji")}
    there = Engine.load(folders["vqa"], [other["captioner"]], other["gaze"], other["emoji"])
    assert engine.parts[ANSWERS] == first[ANSWERS]
    assert list(engine.caption_pipelines) == [str(folders["captioner"])]  # it keeps its place
    assert engine.caption(PICTURE).text == there.caption(PICTURE).text
    assert np.array_equal(engine.gaze(PICTURE), there.gaze(PICTURE))
    assert engine.emoji("so happy").top == there.emoji("so happy").top
    expected = Neighbours(there.emoji_pipeline, open_sentences(f"face={tmp_path / 't'}"))
    assert loader.neighbours.nearest("so happy") == expected.nearest("so happy")


def test_a_gaze_model_of_the_answerers_own_goes_with_it(hub, folders, tmp_path):
    own = checkpoints.save(tiny_answerer(gaze=tiny_gaze().config, fusion="gated"), tmp_path / "own")
    engine = Engine.load(own)
    assert engine.gaze_pipeline is not None
    publish(hub, folders["vilt"], "org/vilt")
    load(Loader(engine, ["org/*"]), "org/vilt")
    assert engine.gaze_pipeline is None


def test_the_model_of_the_start_comes_back_by_its_name(hub, loader, folders):
    before = loader.engine.answer(PICTURE, QUESTION)
    publish(hub, folders["vilt"], "lab/vilt")
    load(loader, "lab/vilt")
    assert loader.first(ANSWERS) == "vqa"  # strangers need not know where its folder lies
    hub.stop()
    load(loader, "vqa")
    assert loader.engine.parts[ANSWERS].name == str(folders["vqa"])
    assert loader.engine.answer(PICTURE, QUESTION).top == before.top


@pytest.mark.parametrize(
    "name", ["evil/model", "lab/vilt2", "x/org/a", "Org/a", "../../etc", "gaze", "/tmp", "a" * 99]
)
def test_an_id_outside_the_patterns_is_refused_and_nobody_is_asked(hub, loader, name):
    assert f"{name!r} may not be loaded here, only org/*, lab/vilt" == refusal(loader, name)
    assert hub.requests == []


def test_without_patterns_nothing_may_be_loaded(engine):
    assert "no other model may be loaded" in refusal(Loader(engine), "org/other")
    assert "no other model may be loaded" in refusal(Loader(engine), engine.parts[ANSWERS].title)


def test_what_is_there_already_is_not_loaded_again(hub, loader, folders):
    assert "'vqa' is there already" in refusal(loader, "vqa")
    publish(hub, folders["vilt"], "lab/vilt")
    load(loader, "lab/vilt")
    assert "'lab/vilt' is there already" in refusal(loader, " lab/vilt ")


@pytest.mark.parametrize("name", ["org/", "org/a b", "org/a/b", "org/../x", "org/ü"])
def test_a_malformed_id_is_told_and_the_hub_not_asked(hub, loader, name):
    assert "is not a Hub id" in refusal(loader, name)
    assert hub.requests == []


def test_an_empty_and_an_endless_id_are_told(loader):
    assert "the id is empty" in refusal(loader, "  ")
    assert "100,000 characters" in refusal(loader, "a" * 100_000)


def test_a_local_folder_of_that_name_is_not_what_is_loaded(hub, loader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoints.save(tiny_answerer(1), tmp_path / "org" / "here")
    assert "is not on the Hub" in refusal(loader, "org/here")


def test_what_the_hub_does_not_have_or_must_not_be_opened_is_told(hub, loader, folders):
    hub.create("org/pickle").commit({"config.json": b"{}", "pytorch_model.bin": b"\x80"})
    hub.create("org/none").commit({"README.md": b""})
    hub.create("org/private", private=True).commit(files(folders["vilt"]))
    publish(hub, folders["other-captioner"], "org/captioner")
    bert = files(folders["vilt"]) | {"config.json": b'{"model_type": "bert"}'}
    hub.create("org/bert").commit(bert)
    assert "only pickle weights (pytorch_model.bin)" in refusal(loader, "org/pickle")
    assert "no model.safetensors" in refusal(loader, "org/none")
    assert "is not on the Hub, or it is private" in refusal(loader, "org/private")
    assert "is not on the Hub" in refusal(loader, "org/missing")
    assert refusal(loader, "org/captioner") == "'org/captioner' holds a Captioner, no answerer"
    assert refusal(loader, "org/bert").startswith("'org/bert': model_type 'bert' is none of")
    assert load(loader, "org/captioner", DESCRIBES)


def test_a_model_that_is_too_large_is_refused_before_it_is_fetched(hub, engine, folders):
    large = files(folders["vilt"]) | {"model.safetensors": bytes(2_000_000)}
    hub.create("org/large").commit(large)
    words = refusal(Loader(engine, ["*"], most_mb=1), "org/large")
    assert "'org/large' is too large: its files have 2 MB and the limit is 1 MB" in words
    assert fetched(hub) == []


def test_a_hub_that_is_down_is_told_or_the_cached_copy_taken(hub, loader, folders):
    publish(hub, folders["vilt"], "lab/vilt")
    load(loader, "lab/vilt")
    load(loader, "vqa")
    hub.stop()
    load(loader, "lab/vilt")
    assert loader.engine.parts[ANSWERS].name == "lab/vilt"
    assert "cannot be reached" in refusal(loader, "org/other")


def test_a_second_one_is_told_that_another_is_being_loaded(hub, loader, folders):
    publish(hub, folders["vilt"], "org/slow")
    fault = Fault("GET .*/model.safetensors", hold=True, times=1)
    hub.faults.append(fault)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(load, loader, "org/slow")
        assert fault.held.wait(60)
        assert "another model is being loaded" in refusal(loader, "org/slow")
        assert loader.engine.answer(PICTURE, QUESTION).text  # nobody else waits
        fault.released.set()
        first.result()
    assert loader.engine.parts[ANSWERS].name == "org/slow"
    assert load(loader, "vqa")  # the next one may load


@pytest.mark.parametrize("when", ["Asking the Hub", "Downloading", "Loading it"])
def test_who_cancels_leaves_the_old_model_and_the_next_one_may_load(hub, loader, folders, when):
    publish(hub, folders["vilt"], "org/other")

    def tell(now, _done, _total):
        if now.startswith(when):
            raise Cancelled

    before = loader.engine.parts
    with pytest.raises(Cancelled):
        loader.load(ANSWERS, "org/other", tell)
    assert loader.engine.parts == before
    load(loader, "org/other")
    assert loader.engine.parts != before


@pytest.mark.parametrize("kind", ["vilt", "other-vqa"])
def test_the_old_model_is_freed(hub, loader, folders, kind):
    publish(hub, folders[kind], "org/other")
    load(loader, "org/other")
    loader.engine.answer(PICTURE, QUESTION)
    loader.engine.explain(PICTURE, QUESTION, method="gradient")
    old = weakref.ref(loader.engine.parts[ANSWERS].network)
    load(loader, "vqa")
    assert old() is None


def test_what_has_begun_ends_with_the_model_that_it_began_with(engine, folders):
    begun, expected = engine.snapshot(), engine.answer(PICTURE, QUESTION).top
    other = model_set.load(ANSWER, folders["other-vqa"])
    engine.replace(ANSWERS, other)
    assert begun.answer(PICTURE, QUESTION).top == expected
    assert engine.answer(PICTURE, QUESTION).top != expected
    with pytest.raises(ValueError, match="a model for 'gaze' cannot replace one for 'answer'"):
        engine.replace(ANSWERS, engine.parts[LOOKS])


def test_threads_get_the_answer_of_the_old_or_of_the_new_model_while_it_is_replaced(
    engine, folders
):
    other = model_set.load(ANSWER, folders["vilt"])
    both = {engine.answer(PICTURE, QUESTION).top, other.model.answer(PICTURE, QUESTION).top}
    replaced, seen = threading.Event(), set()

    def ask():
        for turn in range(60):
            seen.add(engine.answer(PICTURE, QUESTION).top)
            (why,) = engine.explain(PICTURE, QUESTION, method="gradient")
            assert why.label in {top[0][0] for top in both}
            if turn > 1 and replaced.is_set():
                return

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        engine.replace(ANSWERS, other)
        replaced.set()
        for each in asking:
            each.result()
    assert seen <= both
    assert engine.answer(PICTURE, QUESTION).top == other.model.answer(PICTURE, QUESTION).top
