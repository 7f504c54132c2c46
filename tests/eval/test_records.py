"""Records: one for each store, settings, checkpoint and seed; none replaces another; interrupted work goes on."""

from __future__ import annotations

import importlib
import json
import shutil
import signal
from contextlib import suppress

import numpy as np
import pytest

from smae import interrupts, progress
from smae.atomic_io import locked, write_json
from smae.config import check_effect
from smae.errors import ConfigError, DataError, Interrupted
from smae.eval.evaluate import evaluate
from smae.eval.export import export_encoder
from smae.eval.predict import find_head
from smae.eval.probes import probes
from smae.eval.records import IDENTITY, digest, keep, read_record, read_records
from smae.eval.results import choose, differences, read_results
from smae.eval.status import run_states
from smae.train.run_folder import Run
from smae.viz.report.results import draw_results
from tests.eval.evaluated import FAST, OTHER, STORE, check, half_trained, record_json, train
from tests.reliability.lies import VALUES, leaves, replace


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("records") / "run")


@pytest.fixture
def run(trained, tmp_path):
    return Run(shutil.copytree(trained.path, tmp_path / "run"))


def contents(run):
    """Return the JSON files of a run's records, as bytes."""
    return {path.name: path.read_bytes() for path in run.results.glob("*.json")}


def figures(run):
    """Return all records of a run without what the clock and the command decide."""
    made = ("seconds", "date", "command")
    return {
        name: {key: value for key, value in json.loads(text).items() if key not in made}
        for name, text in contents(run).items()
    }


def test_a_record_says_of_what_it_is_and_how_it_was_made(run):
    check(run, "linear", settings={"linear.epochs": 3})
    (path,) = run.results.glob("*.json")
    found = json.loads(path.read_text())
    assert path.stem == f"all-linear-{found['id'][:10]}"
    assert found["id"] == digest(found)
    assert (found["store"], found["protocol"], found["mode"], found["seed"]) == (STORE.fingerprint, "all", "linear", 0)
    assert found["settings"]["epochs"] == 3
    assert (found["parts"]["train"], found["parts"]["test"]) == (16, 8)
    assert (found["checkpoint"]["step"], len(found["checkpoint"]["sha256"])) == (8, 64)
    assert {"smae", "torch"} <= set(found["versions"])
    assert all(found[key] for key in ("date", "command", "device"))
    assert len(found["predicted"]) == len(found["test"]) == 8
    assert (run.heads / path.stem / "config.json").is_file()


def test_two_stores_with_equal_protocol_names_keep_their_records_and_heads(run, caplog):
    check(run, "linear")
    before = contents(run)
    check(run, "linear", data=OTHER)
    after = contents(run)
    assert len(after) == 2
    assert before.items() <= after.items()
    assert len(list(run.heads.iterdir())) == 2
    caplog.set_level("INFO")
    head = json.loads((find_head(run) / "config.json").read_text())
    assert head["origin"]["store"] == STORE.fingerprint, "of the run's own store"
    assert any(f"store {STORE.fingerprint[:8]}" in line and "2 fit" in line for line in caplog.messages)
    own, other = read_results(run)
    assert (own.current, own.notes) == (True, ())
    assert other.notes[0].startswith(f"on another store, {OTHER.fingerprint[:8]}")
    (state,) = run_states(run.path.parent)
    assert [(score.top1, score.others) for score in state.scores] == [(own.lead.top1, 1)]


def test_two_checkpoints_keep_their_records_and_the_older_one_is_marked(run, caplog):
    with half_trained(run):
        check(run, "linear")
    before = contents(run)
    stale = read_results(run)[0]
    assert (stale.current, stale.notes) == (False, ("of an older checkpoint, step 4; the newest is step-00000008",))
    assert run_states(run.path.parent)[0].scores[0].notes == stale.notes
    check(run, "linear")
    assert before.items() <= contents(run).items()
    newest, older = read_results(run)
    assert [one.first["checkpoint"]["step"] for one in (newest, older)] == [8, 4]
    assert choose([newest, older]) == [newest]
    assert json.loads((find_head(run) / "config.json").read_text())["origin"]["checkpoint"]["step"] == 8
    caplog.clear()
    evaluated = evaluate(run=run.checkpoints / "step-00000004", data=STORE, probes=["linear"], device="cpu",
                         settings={"linear.epochs": 2})[1]  # fmt: skip
    assert evaluated.reused == 1, "the older checkpoint's record is recognised"


def test_two_settings_keep_their_records_and_are_kept_apart(run):
    check(run, "knn")
    check(run, "knn", settings={"knn.k": 3})
    results = read_results(run)
    assert sorted(differences(results)) == ["knn.k 1", "knn.k 3"]
    assert results[0].first["settings"]["k"] == 3, "the latest evaluation comes first"


def test_the_same_again_is_skipped_and_evaluated_anew_only_if_asked(run, caplog):
    first = check(run, "knn", seeds=2)
    before = contents(run)
    caplog.set_level("INFO")
    again = check(run, "knn", seeds=2)
    assert "all evaluations are done already, and kept (--again evaluates anew)" in caplog.messages
    assert (contents(run), again.reused, again.rows) == (before, 2, first.rows)
    anew = check(run, "knn", again=True)
    assert anew.reused == 0
    assert before.items() <= contents(run).items()
    assert sum(path.stem.endswith("-2") for path in run.results.glob("*.json")) == 1
    assert len(read_results(run)[0].records) == 2, "the later record of a seed counts"


class StopAt:
    """A progress reporter that raises a signal at the next sign of life after the n-th probe."""

    def __init__(self, number):
        self.number, self.sent = number, False

    def begin(self, task):
        pass

    def update(self, task):
        if task.name == "eval" and task.note.startswith(f"{self.number} of") and not self.sent:
            self.sent = True
            signal.raise_signal(signal.SIGINT)

    def end(self, task):
        pass


def test_an_interrupted_evaluation_of_all_goes_on_to_the_same_figures(trained, tmp_path):
    whole, cut = (Run(shutil.copytree(trained.path, tmp_path / name / "run")) for name in ("whole", "cut"))
    options = {
        "data": STORE,
        "probes": ["all"],
        "seeds": 2,
        "settings": FAST | {"linear.test_views": 2},
        "device": "cpu",
    }
    evaluate(run=whole.path, **options)
    for number in (3, 4, 5):
        with pytest.raises(Interrupted), interrupts.deferred(), progress.reporting(StopAt(number)):
            evaluate(run=cut.path, **options)
    assert len(contents(cut)) == 3 + 4 + 5
    evaluate(run=cut.path, **options)
    assert len(contents(cut)) == 2 * 8
    assert figures(cut) == figures(whole)


def test_a_name_that_another_process_writes_is_left_to_it(tmp_path):
    run, written = Run(tmp_path), []
    run.results.mkdir()
    with locked(run.results / ".x.lock"):
        assert keep(run, "x", written.append) == "x-2"
    assert keep(run, "x", written.append) == "x"
    assert written == ["x-2", "x"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"k": 5, "pool": "mean"}}, "its id is not that of its store"),
        ({"predicted": [0] * 8}, "its first row is not that of its predictions"),
        ({"predicted": [0]}, "different numbers of clips"),
        ({"predicted": [9] * 8}, "a class that is none of its 4"),
        ({"confusion": [[2] * 4] * 4}, "its confusion matrix is not that"),
        ({"rows": []}, "no record of smae eval"),
        ({"classes": None}, "no record of smae eval"),
        ({"version": 99}, "format 99"),
        ({"date": None}, "date: expected str, found None"),
        ({"settings": [1]}, "settings: expected dict"),
        ({"checkpoint": {"step": "8", "sha256": ""}}, "step: expected int, found '8'"),
        ({"seed": True}, "seed: expected int"),
        ({"classes": [""] * 100_000}, "its confusion matrix is not that"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(run, change, message):
    check(run, "knn")
    (path,) = run.results.glob("*.json")
    content = json.loads(path.read_text()) | change
    if "settings" not in change or change["settings"] == [1]:
        content["id"] = digest(content)
    write_json(path, content)
    with pytest.raises(DataError, match=message):
        read_record(path)
    assert read_records(run, strict=False) == []


def test_figures_that_are_not_those_of_its_clips_are_refused(run):
    check(run, "knn")
    (path,) = run.results.glob("*.json")
    for key in ("top1", "mean_class"):
        content = json.loads(path.read_text())
        content["rows"][0][key] = 0.987
        write_json(path, content)
        with pytest.raises(DataError, match="its figures are not those of its clips"):
            read_record(path)


def test_results_of_an_older_version_are_left_out_with_a_remedy(run, caplog):
    caplog.set_level("INFO")
    run.results.mkdir()
    older = {"protocol": "all", "mode": "knn", "rows": [], "confusion": []}
    write_json(run.results / "all-knn.json", older)
    check(run, "knn")
    assert len(read_results(run)) == 1
    assert any("1 of an older version" in line and "run smae eval again" in line for line in caplog.messages)
    assert json.loads((run.results / "all-knn.json").read_text()) == older


@pytest.mark.parametrize(
    ("settings", "modes", "message"),
    [
        ({"masking": {"keep": 0.3}}, ["linear"], r"masking\.keep: no effect on an evaluation"),
        ({"optim": {"lr": 1.0}, "encoder": {"dim": 8}}, ["knn"], r"optim\.lr: no effect.*\n.*encoder\.dim: no effect"),
        ({"train": {"workers": 1, "batch": 3}}, ["knn"], r"^train\.batch: no effect"),
        ({"finetune": {"epochs": 3}}, ["linear", "knn"], r"finetune\.epochs: no effect on --probe linear, knn"),
        ({"lineer": {"epochs": 3}}, ["linear"], r"lineer\.epochs: no effect.*did you mean 'linear'"),
    ],
)
def test_settings_without_effect_are_refused(settings, modes, message):
    with pytest.raises(ConfigError, match=message):
        check_effect(settings, modes)


def test_settings_with_an_effect_are_taken():
    check_effect({"linear": {"epochs": 3}, "augment": {"turn": 1}, "seed": 4, "train": {"workers": 0}}, ["knn"])
    check_effect({"finetune": {"epochs": 3}}, ["semi-1"])
    check_effect({"finetune": {"epochs": 3}, "knn": {"k": 3}}, ["centroid"])
    with pytest.raises(ConfigError, match="no effect on --probe knn"):
        check_effect({"linear": {"epochs": 3}}, ["knn"], baselines=False)


def test_an_exported_encoder_is_evaluated_like_its_checkpoint(run, tmp_path):
    folder = export_encoder(run.path, tmp_path / "encoder")
    options = {"data": STORE, "protocol": "all", "probes": ["linear", "knn"], "settings": {"linear.epochs": 2}}
    _, own = evaluate(run=run.path, device="cpu", **options)
    where, exported = evaluate(encoder=folder, device="cpu", **options)
    assert where.path == folder
    first, second = contents(run), contents(where)
    assert first.keys() == second.keys(), "the same weights, the same identity"
    for name in first:
        one, two = json.loads(first[name]), json.loads(second[name])
        assert {key: one[key] for key in (*IDENTITY, "rows", "predicted")} == {
            key: two[key] for key in (*IDENTITY, "rows", "predicted")
        }
    assert exported.rows == own.rows
    assert evaluate(encoder=folder, device="cpu", **options)[1].reused == 2
    with pytest.raises(ConfigError, match="not both"):
        evaluate(encoder=folder, run=run.path, data=STORE)


def test_a_model_card_marks_results_of_other_weights(run, tmp_path):
    with half_trained(run):
        check(run, "knn")
    card = (export_encoder(run.path, tmp_path / "one") / "README.md").read_text()
    assert "step 4, **not these weights**" in card
    check(run, "knn")
    card = (export_encoder(run.path, tmp_path / "two") / "README.md").read_text()
    assert "not these weights" not in card
    assert "chosen by this rule" in card


def test_a_plug_in_whose_code_has_changed_is_evaluated_anew(run, tmp_path, monkeypatch):
    path = tmp_path / "own_probe.py"
    code = "from smae.eval.probes.linear import knn\n\ndef own(encoder, context):\n    return knn(encoder, context)\n"
    monkeypatch.syspath_prepend(str(tmp_path))
    path.write_text(code)
    monkeypatch.setitem(probes._members, "own", importlib.import_module("own_probe").own)
    assert [check(run, "own").reused for _ in range(2)] == [0, 1]
    path.write_text(code + "# another line\n")
    assert check(run, "own").reused == 0
    assert all(words.startswith("own.code ") for words in differences(read_results(run)))
    assert len(contents(run)) == 2


def test_records_made_with_other_versions_are_kept_with_a_note(run, caplog, monkeypatch):
    check(run, "knn")
    caplog.set_level("INFO")
    check(run, "knn")
    words = "some of them were made with other versions of smae, torch, numpy or Python"
    assert words not in caplog.messages
    monkeypatch.setattr("smae.eval.records.commit", lambda: "another")
    assert check(run, "knn").reused == 1
    assert words in caplog.messages


def test_several_probes_make_one_matrix(run):
    evaluation = check(run, "knn", "linear", "scratch")
    matrix = {what: ["-" if row is None else row.mode for row in rows] for what, rows in evaluation.matrix.items()}
    assert list(matrix)[-2:] == ["chance", "most frequent class"]
    assert matrix["pre-trained encoder"] == ["knn", "linear", "-"]
    assert matrix["supervised from scratch"] == ["-", "-", "scratch"]
    assert matrix["raw coordinates, linear"] == ["knn", "-", "scratch"]


class Totals:
    """A progress reporter that keeps how far the task of the whole is."""

    def __init__(self):
        self.done, self.total = [], 0

    def begin(self, task):
        pass

    def update(self, task):
        if task.name == "eval":
            self.done.append(task.done)
            self.total = task.total

    def end(self, task):
        pass


def test_the_whole_knows_how_far_it_is(run):
    totals = Totals()
    with progress.reporting(totals):
        check(run, "linear", "finetune", "semi-10", "scratch", seeds=2, settings={"finetune.epochs": 5})
    assert totals.done == sorted(totals.done), "it never goes back"
    assert totals.done[-1] == totals.total
    assert len(set(totals.done)) > 4 * 2, "more steps than probes"


def test_no_value_of_a_record_ends_in_a_traceback(tmp_path):
    """Each value replaced by values of other kinds: the record is refused, or shown."""
    whole = record_json(mode="knn", predicted=np.arange(40) // 2 % 4)
    run, read = Run(tmp_path / "run"), 0
    for signed in (False, True):
        for number, path in enumerate(leaves(whole)):
            for name in list(VALUES)[number % 3 :: 3]:
                content = replace(whole, path, VALUES[name])
                if signed:
                    with suppress(KeyError, ValueError):
                        content["id"] = digest(content)
                run.results.mkdir(parents=True, exist_ok=True)
                (run.results / "x.json").write_text(json.dumps(content))
                try:
                    results = read_results(run)
                except DataError:
                    continue
                read += len(results)
                assert draw_results(results, tmp_path, "xsub")
                assert differences(results) == [""] * len(results)
    assert read > 100
