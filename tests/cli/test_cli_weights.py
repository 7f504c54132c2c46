"""Commands on trained weights: export-encoder, embed, predict, ensemble; tables of several probes."""

from __future__ import annotations

import json
import shutil
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

import smae as package
from smae_cli.main import run

TINY = [
    "--recipe", "skeletonmae-cpu", "--device", "cpu", "--epochs", "1", "--set", "augment.frames=12",
    "--set", "encoder.dim=16", "--set", "encoder.depth=1", "--set", "decoder.dim=16", "--set", "decoder.depth=1",
    "--set", "train.batch=8",
]  # fmt: skip
BRIEF = ["--set", "linear.epochs=2", "--device", "cpu"]
TUNED = ["--set", "finetune.epochs=1", "--set", "finetune.hidden=16"]


def record_of(run, mode):
    """Return the only record of a probe of a run."""
    (path,) = (run / "eval").glob(f"ntu60-xsub-{mode}-*.json")
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with raw recordings, their store, two runs of other streams, and their heads."""
    folder = tmp_path_factory.mktemp("weights")
    data = str(folder / "ntu.zarr")
    assert run(["synth", str(folder / "ntu"), "--actions", "2", "--subjects", "4", "--cameras", "1"]) == 0
    assert run(["prepare", "--raw", str(folder / "ntu"), "--out", data, "--executor", "inline"]) == 0
    for stream in ("joint", "bone"):
        out = str(folder / stream)
        assert run(["pretrain", "--data", data, "--out", out, *TINY, "--set", f"augment.stream={stream}"]) == 0
        assert run(["eval", "--run", out, "--probe", "linear", "--probe", "finetune", *BRIEF, *TUNED]) == 0
    return folder


@pytest.fixture
def recordings(home):
    return sorted((home / "ntu").rglob("*.skeleton"))


def test_a_run_becomes_a_graph(smae, home, tmp_path):
    code, result, err = smae("export-encoder", "joint", "--format", "torch-export", "--out", tmp_path / "a.pt2")
    assert (code, result["files"]) == (0, ["a.pt2"])
    assert "largest difference from the PyTorch module" in err
    program = torch.export.load(tmp_path / "a.pt2").module()
    store = package.open_store(home / "ntu.zarr")
    features, _ = program(torch.from_numpy(store[0].joints)[None])
    smae("embed", "ntu.zarr", "--run", "joint", "--out", tmp_path / "a.npz")
    expected = torch.from_numpy(np.load(tmp_path / "a.npz")["features"])
    torch.testing.assert_close(features[0].detach(), expected[0], rtol=1e-5, atol=1e-5)


def test_an_exported_encoder_needs_neither_run_nor_store(smae, home, tmp_path):
    code, result, _ = smae("export-encoder", "joint", "--out", tmp_path / "encoder")
    assert (code, result["files"]) == (0, ["README.md", "config.json", "model.safetensors"])
    encoder = package.load_encoder(tmp_path / "encoder", layout="ntu25", frames=12)
    with torch.no_grad():
        assert encoder(torch.zeros(2, 12, 25, 3)).shape == (2, 50, 16)
    card = (tmp_path / "encoder" / "README.md").read_text()
    for part in ("recipe `skeletonmae-cpu`",
                 "data set `ntu60`", "layout `ntu25`", "| ntu60-xsub | linear | pre-trained encoder |",
                 "## Licence", "step 2 of 2"):  # fmt: skip
        assert part in card
    assert str(home) not in card + (tmp_path / "encoder" / "config.json").read_text(), "no path of this machine"
    code, result, _ = smae("export-encoder", "joint", "--out", tmp_path / "encoder")
    assert (code, "--overwrite" in result["error"]["message"]) == (2, True)


@pytest.mark.parametrize("kind", ["npz", "zarr"])
def test_features_are_the_same_from_a_run_and_from_its_exported_encoder(smae, home, tmp_path, kind):
    assert smae("export-encoder", "bone", "--out", tmp_path / "encoder")[0] == 0
    one, two = tmp_path / f"one.{kind}", tmp_path / f"two.{kind}"
    store = package.open_store(home / "ntu.zarr")
    code, result, _ = smae("embed", "ntu.zarr", "--run", "bone", "--out", one, "--device", "cpu")
    assert (code, result["clips"], result["width"]) == (0, len(store), 16)
    assert smae("embed", "ntu.zarr", "--encoder", tmp_path / "encoder", "--out", two, "--device", "cpu")[0] == 0
    read = np.load if kind == "npz" else zarr.open_group
    first, second = read(one), read(two)
    assert np.array_equal(first["features"][:], second["features"][:])
    assert first["label"][:].tolist() == store.clips.label.tolist()
    names = first["name"][:]
    if kind == "zarr":
        names = np.char.decode(np.ascontiguousarray(names).view(f"S{names.shape[1]}")[:, 0], "ascii")
        assert first.attrs["classes"] == list(store.classes)
    assert names.tolist() == store.clips.name.tolist()
    code, result, _ = smae("embed", "ntu.zarr", "--run", "bone", "--out", one)
    assert (code, "--overwrite" in result["error"]["message"]) == (2, True)


def test_keypoints_are_taken_with_the_layout_of_their_joints(smae, tmp_path):
    take = np.random.default_rng(0).uniform(-0.9, 0.9, (40, 33, 3)).round(4)
    points = [[dict(zip("xyz", point, strict=True)) for point in frame] for frame in take.tolist()]
    file = tmp_path / "take.json"
    file.write_text(json.dumps([{"pose_world_landmarks": one} for one in points]))
    named = (file, "--layout", "mediapipe33")
    for words in (["predict", file], ["embed", file, "--out", tmp_path / "a.npz"], ["explain", file]):
        code, result, _ = smae(*words)
        assert (code, "add --layout, for example" in result["error"]["message"]) == (2, True)
    for head in ([], ["--head", "open-small"]):
        code, result, err = smae("predict", *named, *head, "--device", "cpu")
        assert (code, len(result["found"])) == (0, 1)
        assert "joints of mediapipe33 are mapped to" in err
    code, result, _ = smae("embed", *named, "--run", "joint", "--out", tmp_path / "a.npz", "--device", "cpu")
    assert (code, result["clips"], result["width"]) == (0, 1, 16)
    code, result, _ = smae("explain", *named)
    assert (code, result["verdict"]) == (0, "clip")
    assert smae("view", *named, "--out", tmp_path / "a.html")[0] == 0
    for command, name in (("view", []), ("explain", ["S001C001P001R001A001"])):
        code, result, _ = smae(command, "ntu.zarr", *name, "--layout", "ntu25")
        assert code == 2


def contents(folder):
    """Return the bytes of all files of a folder, or of one file."""
    paths = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in paths}


def make_foreign(folder):
    folder.mkdir()
    (folder / "config.json").write_text('{"version": 1, "mine": true}')
    (folder / "thesis.txt").write_text("years of work")
    return folder


@pytest.mark.parametrize("name", ["mine", "joint", "bone", "ntu.zarr", "joint/encoder", "ntu", "file.txt"])
def test_an_exported_encoder_replaces_nothing_but_one(smae, home, tmp_path, name):
    to = home / name
    if name == "mine":
        to = make_foreign(tmp_path / "mine")
    if name == "file.txt":
        to = tmp_path / name
        to.write_text("mine")
    before, run_before = contents(to), contents(home / "joint")
    code, result, _ = smae("export-encoder", "joint", "--out", to, "--overwrite")
    assert code == 2
    assert any(words in result["error"]["message"] for words in ("is not an exported encoder", "which is read"))
    assert (contents(to), contents(home / "joint")) == (before, run_before)


def test_an_exported_encoder_with_a_foreign_file_is_kept(smae, tmp_path):
    to = tmp_path / "encoder"
    assert smae("export-encoder", "joint", "--out", to)[0] == 0
    assert smae("export-encoder", "bone", "--out", to, "--overwrite")[0] == 0
    assert "`bone`" in (to / "README.md").read_text()
    (to / "notes.txt").write_text("mine")
    before = contents(to)
    assert smae("export-encoder", "joint", "--out", to, "--overwrite")[0] == 2
    assert contents(to) == before


@pytest.mark.parametrize("name", ["ntu.zarr", "other.zarr", "ntu.zarr/x.npz", "mine.zarr", "mine.npz", "joint/x.npz"])
def test_features_replace_nothing_but_features(smae, home, tmp_path, name):
    to = home / name
    if name == "other.zarr":
        to = tmp_path / name
        shutil.copytree(home / "ntu.zarr", to)
    if name == "mine.zarr":
        to = make_foreign(tmp_path / name)
    if name == "mine.npz":
        to = tmp_path / name
        np.savez(to, features=np.zeros(3))
    before, store_before = contents(to), contents(home / "ntu.zarr")
    code, result, _ = smae("embed", "ntu.zarr", "--run", "joint", "--out", to, "--overwrite")
    assert code == 2
    assert any(words in result["error"]["message"] for words in ("is not a file of features", "which is read"))
    assert (contents(to), contents(home / "ntu.zarr")) == (before, store_before)


@pytest.mark.parametrize("kind", ["npz", "zarr"])
def test_earlier_features_are_replaced_if_asked(smae, tmp_path, kind):
    to = tmp_path / f"x.{kind}"
    assert smae("embed", "ntu.zarr", "--run", "joint", "--out", to)[0] == 0
    assert smae("embed", "ntu.zarr", "--run", "bone", "--out", to)[0] == 2
    assert smae("embed", "ntu.zarr", "--run", "bone", "--out", to, "--overwrite")[0] == 0


def test_features_go_to_files_of_known_kinds_and_come_from_one_encoder(smae, tmp_path):
    assert smae("embed", "ntu.zarr", "--run", "joint", "--out", tmp_path / "x.txt")[0] == 2
    assert smae("embed", "ntu.zarr", "--run", "joint", "--encoder", "joint", "--out", tmp_path / "x.npz")[0] == 2


@pytest.mark.parametrize("mode", ["linear", "finetune"])
def test_a_recording_is_classified_like_its_clip_in_the_store(smae, home, recordings, mode):
    code, result, _ = smae("predict", *recordings, "--run", "joint", "--probe", mode, "--device", "cpu")
    assert code == 0
    written = record_of(home / "joint", mode)
    store = package.open_store(home / "ntu.zarr")
    wanted = {str(store.clips.name[clip]): store.classes[kind]
              for clip, kind in zip(written["test"], written["predicted"], strict=True)}  # fmt: skip
    found = {Path(one["path"]).stem: one for one in result["found"]}
    assert len(wanted) == 4
    assert {name: found[name]["label"] for name in wanted} == wanted
    for one in result["found"]:
        assert sum(share for _, share in one["first"]) == pytest.approx(1)
        assert one["first"][0] == [one["label"], one["probability"]]


def test_the_fine_tuned_head_comes_first(smae, home, recordings):
    code, result, _ = smae("predict", recordings[0], "--run", "joint")
    name = f"ntu60-xsub-finetune-{record_of(home / 'joint', 'finetune')['id'][:10]}"
    assert (code, Path(result["head"]).name) == (0, name)
    assert smae("predict", recordings[0], "--head", result["head"])[1]["found"] == result["found"]
    assert smae("predict", recordings[0], "--head", result["head"], "--probe", "linear")[0] == 2


def test_a_bad_recording_is_the_error_of_prepare_and_among_several_a_line(smae, recordings, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    bad = raw / recordings[0].name
    bad.write_bytes(recordings[0].read_bytes()[:-40])
    shutil.copy(recordings[1], raw)
    code, result, _ = smae("predict", bad, "--run", "joint")
    assert (code, result["error"]["kind"]) == (4, "BadRecording")
    assert result["error"]["message"].startswith(str(bad))
    assert "truncated" in result["error"]["message"]
    code, summary, _ = smae("prepare", "--raw", raw, "--out", tmp_path / "x.zarr", "--max-bad", "1")
    assert code == 3
    code, result, _ = smae("predict", bad, recordings[1], "--run", "joint")
    assert (code, len(result["found"])) == (3, 1)
    keys = ("code", "message", "line", "column", "excerpt", "size", "sha256")
    assert [result["quarantined"][0][key] for key in keys] == [summary["quarantined"][0][key] for key in keys]
    code, result, _ = smae("predict", bad, bad, "--run", "joint")
    assert (code, result["found"], len(result["quarantined"])) == (4, [], 2)
    assert smae("predict", raw / "gone.skeleton", "--run", "joint")[0] == 2


def test_without_a_head_the_message_says_how_to_make_one(smae, home, recordings, tmp_path):
    shutil.copytree(home / "joint", tmp_path / "bare", ignore=shutil.ignore_patterns("heads"))
    code, result, _ = smae("predict", recordings[0], "--run", tmp_path / "bare")
    assert code == 4
    assert f"smae eval --run {tmp_path / 'bare'} --probe linear" in result["error"]["message"]
    assert smae("export-encoder", "joint", "--out", tmp_path / "encoder")[0] == 0
    code, result, _ = smae("predict", recordings[0], "--head", tmp_path / "encoder")
    assert (code, "without a head" in result["error"]["message"]) == (4, True)


def test_an_ensemble_of_streams(smae):
    code, result, _ = smae("ensemble", "joint", "bone", "--probe", "linear")
    assert (code, [row["what"] for row in result["rows"]]) == (0, ["joint", "bone", "ensemble"])
    code, result, _ = smae("ensemble", "joint", "bone", "--probe", "knn")
    assert (code, "--probe knn" in result["error"]["message"]) == (4, True)


def test_seeds_and_selection_are_in_the_table_and_transfer_needs_another_store(smae):
    code, result, _ = smae(
        "eval", "--run", "bone", "--probe", "linear", "--seeds", "2", "--select", "best_test", *BRIEF
    )
    assert code == 0
    own = [row for row in result["rows"] if row["what"] == "pre-trained encoder"]
    assert [(row["selection"], row["seeds"]) for row in own] == [("last", 2), ("best_test", 2)]
    assert all(row["interval"][0] <= row["top1"] <= row["interval"][1] for row in own)
    code, result, _ = smae("eval", "--run", "bone", "--probe", "transfer", *BRIEF, *TUNED)
    assert (code, "nothing is transferred" in result["error"]["message"]) == (2, True)


def test_transfer_is_to_other_classes_of_the_same_layout(smae, home):
    assert run(["synth", "other", "--actions", "3", "--subjects", "3", "--cameras", "1", "--seed", "5"]) == 0
    assert run(["prepare", "--raw", "other", "--out", "other.zarr", "--executor", "inline"]) == 0
    code, result, _ = smae("eval", "--run", "joint", "--data", "other.zarr", "--probe", "transfer", *BRIEF, *TUNED)
    assert (code, {row["mode"] for row in result["rows"]}) == (0, {"transfer"})
    (folder,) = (home / "joint" / "heads").glob("ntu60-xsub-transfer-*")
    config = json.loads((folder / "config.json").read_text())
    assert config["head"]["classes"] == ["A001", "A002", "A003"]


def test_people_get_tables(smae, home, recordings, capsys):
    assert run(["predict", str(recordings[0]), "--run", "joint"]) == 0
    out = capsys.readouterr().out
    assert "probability %" in out
    assert "A001 drink" in out
    assert run(["ensemble", "joint", "bone", "--probe", "linear"]) == 0
    assert "95 % interval" in capsys.readouterr().out


def test_an_exported_encoder_is_evaluated_from_the_command_line(smae, tmp_path):
    assert smae("export-encoder", "bone", "--out", tmp_path / "encoder")[0] == 0
    words = ("eval", "--encoder", tmp_path / "encoder", "--data", "ntu.zarr", "--probe", "knn", "--device", "cpu")
    code, result, err = smae(*words)
    assert (code, result["run"], result["reused"]) == (0, str(tmp_path / "encoder"), 0)
    assert f"using {tmp_path / 'encoder'}, exported after step 2 of bone" in err
    assert (tmp_path / "encoder" / "eval" / result["records"][0]).is_file()
    assert smae(*words, "--resume")[1]["reused"] == 1
    assert run([*map(str, words), "--resume", "--again"]) == 2
    code, result, _ = smae("eval", "--encoder", tmp_path / "encoder", "--run", "bone")
    assert (code, "not both" in result["error"]["message"]) == (2, True)
    code, result, _ = smae("export-encoder", "joint", "--out", tmp_path / "encoder", "--overwrite")
    assert code == 2, "its records are not replaced"


def test_settings_without_effect_are_refused(smae):
    code, result, _ = smae("eval", "--run", "bone", "--set", "masking.keep_joints=0.4")
    assert code == 2
    assert "masking.keep_joints: no effect on an evaluation" in result["error"]["message"]


def test_the_newest_usable_run_is_named(smae, home, tmp_path, monkeypatch, recordings):
    runs = tmp_path / "runs"
    shutil.copytree(home / "bone", runs / "bone")
    shutil.copytree(home / "joint", runs / "dead", ignore=shutil.ignore_patterns("checkpoints", "heads"))
    (runs / "dead" / "run.json").touch()
    monkeypatch.chdir(tmp_path)
    using = f"using {Path('runs/bone')} (newer, without a"
    for words in (["eval", "--probe", "knn", "--device", "cpu"], ["report"], ["predict", recordings[0]],
                  ["export-encoder", "--out", "encoder"], ["embed", home / "ntu.zarr", "--out", "x.npz"]):  # fmt: skip
        code, _, err = smae(*words)
        assert (code, using in err) == (0, True), words
    states = {Path(one["path"]).name: one["state"] for one in smae("status")[1]["runs"]}
    assert states == {"bone": "finished", "dead": "no checkpoint"}


def test_a_folder_and_a_zip_are_classified_like_their_files(smae, recordings, tmp_path):
    one_by_one = smae("predict", *recordings[:2], "--run", "joint")[1]["found"]
    folder = tmp_path / "mine"
    folder.mkdir()
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for path in recordings[:2]:
            shutil.copy(path, folder)
            archive.write(path, path.name)
    wanted = {Path(one["path"]).name: one["first"] for one in one_by_one}
    for where in (folder, tmp_path / "mine.zip"):
        found = smae("predict", where, "--run", "joint")[1]["found"]
        assert {one["path"].replace("!", "/").rpartition("/")[2]: one["first"] for one in found} == wanted
        assert all(not one["track"] for one in found)


def test_a_long_recording_gets_a_label_for_each_second_also_on_its_page(smae, recordings, tmp_path):
    texts = [path.read_text().split("\n", 1) for path in recordings * 3]
    frames = sum(int(first) for first, _ in texts)
    long = tmp_path / "long.skeleton"
    long.write_text("\n".join([str(frames), *(rest.strip() for _, rest in texts), ""]))
    code, result, text = smae("predict", long, "--run", "joint")
    (one,) = result["found"]
    assert (code, one["frames"], len(one["track"])) == (0, frames, -(-frames // 30))
    assert "longer than the clips that the encoder was trained on" in text
    assert [second["second"] for second in one["track"]] == list(range(len(one["track"])))
    assert {second["label"] for second in one["track"]} <= set(result["names"])
    code, result, _ = smae("predict", long, "--run", "joint", "--stride", "1000")
    assert (code, "--stride 1000" in result["error"]["message"]) == (2, True)
    assert smae("view", long, "--run", "joint", "--out", tmp_path / "long.html")[0] == 0
    page = (tmp_path / "long.html").read_text()
    assert '<span style="flex:' in page


def test_recordings_have_the_features_of_their_clips_in_the_store(smae, recordings, tmp_path):
    assert smae("embed", "ntu.zarr", "--run", "joint", "--out", tmp_path / "store.npz")[0] == 0
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in recordings:
        shutil.copy(path, folder)
    assert smae("embed", folder, "--run", "joint", "--out", tmp_path / "mine.npz")[0] == 0
    store, mine = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("store", "mine"))
    row = {name: number for number, name in enumerate(store["name"].tolist())}
    index = [row[name] for name in mine["name"].tolist()]
    np.testing.assert_allclose(mine["features"], store["features"][index], rtol=1e-5, atol=1e-6)
    classes = store["classes"][store["label"][index]].tolist()
    assert mine["classes"][mine["label"]].tolist() == classes
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(recordings[0], own / "wave.skeleton")
    (own / "bad.skeleton").write_text("2\n")
    code, result, _ = smae("embed", own, "--run", "joint", "--out", tmp_path / "own.csv")
    assert (code, result["clips"], result["quarantined"][0]["path"]) == (3, 1, str(own / "bad.skeleton"))
    head, line = (tmp_path / "own.csv").read_text().splitlines()
    assert head.startswith("name,label,class,f0,f1,")
    assert line.split(",")[:3] == ["wave", "-1", ""]
    values = np.array(line.split(",")[3:], np.float32)
    place = mine["name"].tolist().index(recordings[0].stem)
    np.testing.assert_allclose(values, mine["features"][place], rtol=1e-5, atol=1e-6)
    assert smae("embed", own, "--run", "joint", "--out", tmp_path / "own.csv")[0] == 2
    assert smae("embed", own, "--run", "joint", "--out", tmp_path / "own.csv", "--overwrite")[0] == 3
    assert smae("embed", recordings[0], "--run", "joint", "--out", tmp_path / "one.zarr")[0] == 0


def test_parquet_needs_an_extra_that_is_named(smae, recordings, tmp_path):
    if find_spec("pyarrow") is not None:
        pytest.skip("pyarrow is here")
    code, result, _ = smae("embed", recordings[0], "--run", "joint", "--out", tmp_path / "x.parquet")
    assert (code, "smae[parquet]" in result["error"]["message"]) == (2, True)
