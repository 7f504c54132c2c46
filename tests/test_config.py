"""Settings: wrong ones are rejected in the user's spelling, and layers are merged in order."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from smae.config import (
    DEFAULT_NAMES,
    MAX_BYTES,
    Section,
    as_toml,
    check,
    load_recipe,
    merge,
    nested,
    parse_set,
    parse_sets,
    read_toml,
    recipes,
)
from smae.errors import ConfigError, UnknownNameError
from smae.train.config import FAMILIES, RunConfig, build_config, resolve


class Oven(Section):
    heat: float = Field(200, gt=0)
    fan: bool = False


def test_a_section_is_filled_and_frozen():
    oven = check(Oven, {"heat": 180}, where="oven")
    assert (oven.heat, oven.fan) == (180, False)
    with pytest.raises(ValidationError):
        oven.heat = 200


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heet": 1}, "oven.heet: no such setting; expected one of heat, fan; did you mean 'heat'?"),
        ({"heat": "hot"}, "oven.heat: input should be a valid number"),
        ({"heat": -1}, "oven.heat: input should be greater than 0; found -1"),
        ({"heat": float("nan")}, "oven.heat: input should be a finite number"),
        ({"heat": float("inf")}, "oven.heat: input should be a finite number"),
    ],
)
def test_a_wrong_setting_is_named_with_dots(values, message):
    with pytest.raises(ConfigError) as caught:
        check(Oven, values, where="oven")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=1e-3", {"a": {"b": 1e-3}}),
        ("a=true", {"a": True}),
        ("a.b = random ", {"a": {"b": "random"}}),
        ('a="1"', {"a": "1"}),
        ("a.b=[0.5, 1.0]", {"a": {"b": [0.5, 1.0]}}),
        ("a=x=y", {"a": "x=y"}),
    ],
)
def test_set_reads_toml_values_and_bare_words(text, value):
    assert parse_set(text) == value


@pytest.mark.parametrize("text", ["a.b", "=1", "a..b=1", "a b=1", "a.=1", "1a=1"])
def test_a_set_of_another_form_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match=r"expected section\.key=value, for example"):
        parse_set(text)


def test_a_value_nested_without_end_is_text_and_refused_later_by_its_type():
    deep = "[" * 20_000
    assert parse_set(f"a={deep}") == {"a": deep}


def test_later_layers_win_setting_by_setting():
    assert merge({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}}, {"b": 2}) == {"a": {"x": 1, "y": 3}, "b": 2}
    assert parse_sets(["a.x=1", "a.y=2", "a.x=3"]) == {"a": {"x": 3, "y": 2}}


@pytest.mark.parametrize(
    "settings",
    [
        {"optim.lr": 1e-3, "optim.clip": 0, "seed": 3},
        {"optim": {"lr": 1e-3, "clip": 0}, "seed": 3},
        {"optim": {"lr": 1e-3}, "seed": 3, "optim.clip": 0},
    ],
)
def test_dotted_and_nested_settings_are_the_same(settings):
    assert nested(settings) == {"optim": {"lr": 1e-3, "clip": 0}, "seed": 3}
    assert nested({"outer": settings})["outer"] == nested(settings)


def test_merging_changes_no_layer():
    below, above = {"a": {"x": 1}}, {"a": {"x": 2}}
    merge(below, above)["a"]["x"] = 3
    assert (below, above) == ({"a": {"x": 1}}, {"a": {"x": 2}})


def test_another_plug_in_starts_afresh():
    below = {"masking": {"name": "tube", "length": 5}}
    assert merge(below, {"masking": {"name": "random"}}) == {"masking": {"name": "random"}}
    assert merge(below, {"masking": {"name": "tube", "keep": 0.2}})["masking"]["length"] == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = 1\na = 2\n", "not valid TOML"),
        (b"a = \n", "not valid TOML"),
        (b"\xff\xfea", "not valid TOML"),
        (b"[" * 20_000, "not valid TOML|nested too deeply"),
        (b"a = " + b"[" * 20_000 + b"]" * 20_000, "nested too deeply"),
        (b"#" * (MAX_BYTES + 1), "at most 1048576"),
    ],
)
def test_a_settings_file_that_is_none_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "settings.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_toml(path)
    assert str(path) in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_settings(tmp_path):
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf[optim]\r\nlr = 0.1\r\n")
    assert read_toml(tmp_path / "mine.toml") == {"optim": {"lr": 0.1}}


def test_a_missing_settings_file_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read: No such file"):
        read_toml(tmp_path / "gone.toml")


def test_the_defaults_are_the_published_recipe():
    config = build_config({})
    assert {family: getattr(config, family).name for family in FAMILIES} == DEFAULT_NAMES
    assert (config.augment.frames, config.encoder.dim, config.encoder.depth, config.decoder.depth) == (120, 256, 8, 3)
    assert (config.optim.lr, config.optim.min_lr, config.optim.weight_decay) == (1e-3, 5e-4, 0.05)
    assert (config.train.epochs, config.train.batch, config.optim.warmup) == (400, 128, 20)


def test_all_wrong_settings_are_listed():
    with pytest.raises(ConfigError) as caught:
        build_config(
            {
                "masking": {"name": "randon"},
                "encoder": {"dimm": 8},
                "optim": {"lr": float("inf")},
                "train": 3,
                "decoder": "cross",
            }
        )
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    for part in (
        "did you mean 'random'",
        "encoder.dimm: no such",
        "optim.lr: ",
        "train: expected a section",
        "decoder: ",
    ):
        assert any(part in line for line in lines), part


@pytest.mark.parametrize(
    "values",
    [
        {"seeed": 1},
        {"seed": -1},
        {"seed": 1.5},
        {"train": {"batch": 0}},
        {"train": {"workers": -1}},
        {"masking": {"name": 3}},
    ],
)
def test_a_wrong_setting_of_a_run_is_refused(values):
    with pytest.raises(ConfigError):
        build_config(values)


def test_dumped_settings_build_the_same_run():
    config = build_config({"masking": {"name": "tube", "length": 3}, "augment": {"crop": [0.6, 0.9]}})
    again = build_config(config.model_dump(mode="json"))
    assert isinstance(again, RunConfig)
    assert again == config
    assert again.masking.length == 3


@pytest.mark.parametrize("name", recipes())
def test_every_packaged_recipe_is_whole_and_says_what_it_is_for(name):
    assert recipes()[name].about
    assert isinstance(resolve(name), RunConfig)


def test_packaged_recipes_hold_differences_from_the_defaults_only():
    folder = Path(__file__).parents[1] / "smae" / "recipes"
    for path in folder.glob("*.toml"):
        own = tomllib.loads(path.read_text())
        for key in ("about", "aims", "cost", "ran"):
            own.pop(key, None)
        base = own.pop("extends", None)
        below = resolve(base).model_dump() if base else build_config({}).model_dump()
        for section, values in own.items():
            if isinstance(values, dict) and values.get("name", below[section].get("name")) != below[section].get(
                "name"
            ):
                # Another plug-in takes none of the settings of the one below.
                below[section] = FAMILIES[section].get(values["name"]).Config().model_dump()
            for key, value in values.items() if isinstance(values, dict) else [(None, values)]:
                other = below[section] if key is None else below[section].get(key)
                assert value != other, f"{path.name}: {section}.{key} repeats what lies below"


PUBLISHED = {
    "skeletonmae-ntu60-xsub", "skeletonmae-ntu60-xview", "skeletonmae-ntu120-xsub", "skeletonmae-ntu120-xset",
    "mamp-ntu60-xsub", "mamp-ntu60-xview", "mamp-ntu120-xsub", "mamp-ntu120-xset", "nw-ucla", "ui-prmd", "utd-mhad",
    "skeletonmae-nw-ucla", "skeletonmae-ui-prmd",
}  # fmt: skip


def test_recipes_of_data_sets_say_what_they_aim_at_what_it_costs_and_whether_they_were_run():
    found = recipes()
    assert PUBLISHED | {
        "base",
        "cpu",
        "demo",
        "cpu-demo",
        "skeletonmae-cpu",
        "nw-ucla-small",
        "nw-ucla-graph",
        "slim",
        "open-small",
    } == set(found)
    for name in PUBLISHED:
        assert found[name].aims
        assert found[name].cost
        assert found[name].ran == "not run here" or "%" in found[name].ran


@pytest.mark.parametrize("name", sorted(name for name in PUBLISHED if "ntu" in name))
def test_recipes_are_of_the_protocol_and_method_that_they_are_called_by(name):
    method, protocol = name.split("-", 1)
    config = resolve(name)
    assert (config.objective.name, config.protocol) == (method, protocol)
    assert config.decoder.depth == (5 if "ntu120" in name else 3)
    if method == "mamp":
        assert (config.masking.name, config.masking.tau) == ("motion-aware", 0.75 if "ntu120" in name else 0.8)
    assert resolve("cpu-demo") == resolve("demo")


def test_settings_are_merged_over_the_recipe(tmp_path):
    (tmp_path / "mine.toml").write_text('extends = "cpu"\nseed = 1\n[train]\nepochs = 2\nbatch = 8\n')
    config = resolve(str(tmp_path / "mine.toml"), {"train.batch": 4, "seed": 3})
    assert (config.train.epochs, config.train.batch, config.seed) == (2, 4, 3)
    assert config.encoder.dim == resolve("cpu").encoder.dim


def test_settings_of_the_default_plug_in_do_not_pass_to_another(tmp_path):
    (tmp_path / "mine.toml").write_text("[masking]\nkeep_joints = 0.5\n")
    recipe = str(tmp_path / "mine.toml")
    assert resolve(recipe).masking.keep_joints == 0.5
    assert resolve(recipe, {"masking.name": "random"}).masking.name == "random"


def test_a_recipe_that_extends_itself_is_refused(tmp_path):
    path = tmp_path / "loop.toml"
    path.write_text(f'extends = "{path}"\n')
    with pytest.raises(ConfigError, match="in a circle"):
        load_recipe(str(path))


def test_a_recipe_that_extends_nothing_readable_is_refused(tmp_path):
    path = tmp_path / "odd.toml"
    path.write_text("extends = 3\n")
    with pytest.raises(ConfigError, match="extends: expected the name of a recipe, found 3"):
        load_recipe(str(path))


def test_an_unknown_recipe_gets_a_hint():
    with pytest.raises(UnknownNameError, match=r"unknown recipe 'bas'.*did you mean 'base'"):
        load_recipe("bas")


@pytest.mark.parametrize("name", recipes())
def test_settings_as_toml_are_a_recipe_of_the_same_settings(name, tmp_path):
    config, path = resolve(name), tmp_path / "mine.toml"
    path.write_text(as_toml(config))
    assert resolve(str(path)) == config


def test_settings_as_toml_are_complete_and_described():
    text = as_toml(resolve("base", {"selection.also": ["best_val"]}))
    settings = tomllib.loads(text)
    assert settings["selection"]["also"] == ["best_val"]
    assert {"seed", "protocol", "augment", "objective", "masking", "encoder", "decoder", "optim", "train"} <= set(
        settings
    )
    assert settings["train"].keys() == type(resolve("base").train).model_fields.keys()
    assert "lr = 0.001  # peak learning rate\n" in text
