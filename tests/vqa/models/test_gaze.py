"""The gaze model, the maps of fixations, and maps in bulk."""

import json

import numpy as np
import pytest
import torch
from helpers.tiny import gaze_rows, tiny_gaze
from scipy.ndimage import gaussian_filter

from saliency.fixations import SIZE, count_map, density
from training import score
from vqa import checkpoints
from vqa.batch import runner
from vqa.data.image_dataset import open_rows
from vqa.errors import BadData
from vqa.metrics.functional.gaze import gaze_scores
from vqa.metrics.gaze_scores import GazeScores
from vqa.models import GazeModel
from vqa.pipelines.gaze import GazePipeline

PICTURES = [row["image"]["bytes"] for row in gaze_rows()]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return checkpoints.save(tiny_gaze(), tmp_path_factory.mktemp("model") / "gaze")


def bulk(data, out, model, *options):
    flags = ["gaze", "--data", data, "--out", out, "--model", model, "--batch_size", 3, *options]
    runner.main([*map(str, flags)])


def measured(data, predictions):
    score.main(["gaze", "--data", str(data), "--predictions", str(predictions)])
    content = json.loads(predictions.with_suffix(".metrics.json").read_text())
    return content["results"]["gaze"]["metrics"]


def test_a_density_is_scipys():
    rng = np.random.default_rng(0)
    counts = np.zeros((2, 60, 80))
    counts[0, rng.integers(0, 60, 50), rng.integers(0, 80, 50)] = 1
    counts[1, 0, 79] = 3.0  # in a corner: what would leave is mirrored
    found = density(torch.from_numpy(counts), sigma=6.0)
    for one, expected in zip(found, counts, strict=True):
        np.testing.assert_allclose(one, gaussian_filter(expected, 6.0), atol=1e-7)
    small = np.eye(5)  # smaller than the blur reaches
    np.testing.assert_allclose(
        density(torch.from_numpy(small), 6.0), gaussian_filter(small, 6.0), atol=1e-7
    )
    with pytest.raises(ValueError, match="sigma must be above 0, it is 0"):
        density(torch.from_numpy(small), 0)


def test_fixations_are_counted_where_they_fell():
    counts = count_map([(0, 0), (1, 1), (0.5, 0.5), (0.5, 0.5), (1.01, 0.5), (0.2, -0.1)], (4, 6))
    assert counts[0, 0] == counts[3, 5] == 1
    assert counts[2, 3] == 2
    assert counts.sum() == 4  # those outside are left out


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("size", [(64, 64), (96, 128)])
def test_a_map_has_the_pictures_size_and_sums_to_one(output, size):
    model = tiny_gaze(output=output)
    with torch.no_grad():
        maps = model(torch.rand(2, 3, *size))
    assert maps.shape == (2, *size)
    assert (maps >= 0).all()
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(2))
    assert (maps[0] - maps[1]).abs().max() > 0


def test_fine_and_coarse_features_and_the_prior_all_take_part():
    model = tiny_gaze()
    logits = model.logits(torch.rand(1, 3, 64, 64))
    # Square, or the sum would forget what it cannot tell from a constant.
    logits.square().sum().backward()
    still = [
        name
        for name, parameter in model.named_parameters()
        if not name.startswith("encoder.") and not (parameter.grad != 0).any()
    ]
    assert not still
    assert len(model.enter) == len(model.strides) == 4


def test_a_saved_model_says_the_same(checkpoint):
    model = checkpoints.load_as(GazeModel, checkpoint)
    again = checkpoints.load_as(GazeModel, checkpoints.save(model, checkpoint.parent / "again"))
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(pixels), again(pixels))


def test_what_does_not_fit_is_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="output is 'relu'; it can be softmax, sigmoid"):
        tiny_gaze(output="relu")
    with pytest.raises(ValueError, match="no doubling of it gives the stride 32"):
        tiny_gaze(finest=5)
    folder = checkpoints.save(tiny_gaze(), tmp_path / "other")
    (folder / "vocab.json").write_text('{"words": ["a"]}')
    with pytest.raises(checkpoints.BadCheckpoint, match="has no vocabulary"):
        checkpoints.load(folder)


def test_the_gazer_gives_maps_of_the_wanted_size():
    gaze_pipeline = GazePipeline(tiny_gaze())
    maps = gaze_pipeline.maps(PICTURES[:3])
    assert maps.shape == (3, 64, 64)
    assert gaze_pipeline.maps([], size=(4, 5)).shape == (0, 4, 5)
    resized = gaze_pipeline.maps(PICTURES[:3], size=(30, 40))
    np.testing.assert_allclose(resized.sum((1, 2)), 1, rtol=1e-5)
    alone = gaze_pipeline.maps(PICTURES[1:2])
    np.testing.assert_allclose(alone[0], maps[1], atol=1e-7)


def test_bulk_maps_are_the_gazers(gaze_data, checkpoint, tmp_path):
    out = tmp_path / "maps.npz"
    bulk(gaze_data, out, checkpoint)
    expected = GazePipeline(checkpoints.load_as(GazeModel, checkpoint)).maps(PICTURES, size=SIZE)
    with np.load(out) as archive:
        assert archive.files == [f"dot{i}.png" for i in range(8)]
        for name, each in zip(archive.files, expected, strict=True):
            assert archive[name].dtype == np.float16
            np.testing.assert_allclose(archive[name], each / each.max(), atol=2e-3)
    assert [p.name for p in tmp_path.iterdir()] == ["maps.npz"]
    with pytest.raises(SystemExit, match=r"maps\.npz is there already: delete it"):
        bulk(gaze_data, out, checkpoint)


def test_interrupted_maps_are_continued_to_the_same_bytes(gaze_data, checkpoint, tmp_path):
    out, lines = tmp_path / "maps.npz", tmp_path / "maps.npz.lines"
    kept = {}

    class Interrupted(Exception):
        pass

    def keep(_lines, _out):
        kept["all"] = lines.read_bytes()
        raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.TASKS["gaze"], "finish", keep)
        with pytest.raises(Interrupted):
            bulk(gaze_data, out, checkpoint)
    bulk(gaze_data, out, checkpoint)
    whole = out.read_bytes()
    out.unlink()
    lines.write_bytes(kept["all"][: len(kept["all"]) // 2])
    bulk(gaze_data, out, checkpoint)
    assert out.read_bytes() == whole
    out.unlink()
    lines.write_bytes(kept["all"][: len(kept["all"]) // 2])
    other = checkpoints.save(tiny_gaze(seed=1), tmp_path / "other")
    with pytest.raises(SystemExit, match="another model wrote"):
        bulk(gaze_data, out, other)


def test_maps_are_scored_as_the_benchmark_does(gaze_data, tmp_path):
    right = {r["image_id"]: density(looked(r)).numpy() for r in gaze_rows()}
    everywhere = tmp_path / "right.npz"
    np.savez(everywhere, **right)
    found = measured(gaze_data, everywhere)
    assert found["cc"] == found["sim"] == pytest.approx(1)
    assert found["kl"] == pytest.approx(0, abs=1e-4)
    assert found["auc_judd"] > 0.99
    assert found["nss"] > 5
    assert found["information_gain"] > 2
    assert found["centre_cc"] < 0.5
    assert (found["n"], found["n_missing"]) == (8, 0)
    # Another size of map, on any scale, says nearly the same.
    doubled = tmp_path / "doubled.npz"
    np.savez(doubled, **{k: 7 * np.kron(v, np.ones((2, 2))) for k, v in right.items()})
    again = measured(gaze_data, doubled)
    assert again["cc"] == pytest.approx(1, abs=1e-3)


def looked(row):
    return count_map([(f["x"], f["y"]) for f in row["fixations"]])


def test_a_picture_without_a_map_counts_as_looked_at_evenly(gaze_data, tmp_path, capsys):
    path = tmp_path / "half.npz"
    np.savez(path, **{r["image_id"]: density(looked(r)).numpy() for r in gaze_rows()[:4]})
    found = measured(gaze_data, path)
    assert found["cc"] == pytest.approx(0.5, abs=1e-3)
    assert found["n_missing"] == 4
    assert "No prediction for 4:\n  picture dot4.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ({"other.png": np.ones((3, 3))}, "none of its maps is of a picture of these data"),
        ({"dot0.png": np.ones(3)}, r"dot0.png: a map must be numbers \(H, W\), not float64\(3,\)"),
        ({"dot0.png": np.zeros((3, 3))}, "nowhere below 0 and somewhere above"),
        ({"dot0.png": np.full((3, 3), np.nan)}, "must be finite"),
    ],
)
def test_archives_of_something_else_are_refused(gaze_data, tmp_path, maps, message):
    path = tmp_path / "maps.npz"
    np.savez(path, **maps)
    with pytest.raises(SystemExit, match=message):
        measured(gaze_data, path)


def test_files_that_are_no_archives_are_refused(gaze_data, tiny_data, tmp_path):
    path = tmp_path / "maps.npz"
    path.write_text("no archive")
    with pytest.raises(SystemExit, match="no archive of maps by image id"):
        measured(gaze_data, path)
    with pytest.raises(SystemExit, match="has no 'fixations'"):
        measured(tiny_data, path)


def test_rows_tell_where_people_looked(gaze_data, tmp_path):
    row = open_rows(gaze_data, required="fixations")[2]
    assert row.fixations[1] == pytest.approx((0.6, 0.3))
    assert len(row.fixations) == 3
    (tmp_path / "a.png").write_bytes(PICTURES[0])
    entry = {"file_name": "a.png", "fixations": [{"x": 0.25, "y": 0.5}]}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(entry))
    assert open_rows(tmp_path, required="fixations")[0].fixations == ((0.25, 0.5),)
    (tmp_path / "metadata.jsonl").write_text(json.dumps(entry | {"fixations": [{"x": 0.25}]}))
    with pytest.raises(BadData, match=r"a\.png, fixations, point 1: must have the numbers x and y"):
        open_rows(tmp_path, required="fixations")[0]


def test_the_metric_is_what_the_command_prints(gaze_data, checkpoint, tmp_path):
    bulk(gaze_data, tmp_path / "maps.npz", checkpoint)
    printed = measured(gaze_data, tmp_path / "maps.npz")
    maps = np.load(tmp_path / "maps.npz")
    metric = GazeScores()
    for row in gaze_rows():
        looked = [[f["x"], f["y"]] for f in row["fixations"]]
        metric.add(prediction=maps[row["image_id"]].astype(float), reference=looked)
    found = metric.compute()
    assert {name: printed[name] for name in found} == pytest.approx(found, abs=1e-4)
    with pytest.raises(ValueError, match="two pictures or more, not 1 maps"):
        gaze_scores([np.ones((3, 4))], [[[0.5, 0.5]]])
    with pytest.raises(ValueError, match="nowhere below 0"):
        gaze_scores([-np.ones((3, 4))] * 2, [[[0.5, 0.5]]] * 2)
