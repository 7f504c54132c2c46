"""The code stays small, plain and commented: limits on what ``tests/code_measures.py`` measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.code_measures import Measures, measure


@pytest.fixture(scope="module")
def code() -> Measures:
    return measure()


def test_few_files_and_lines(code: Measures) -> None:
    # The aim is 150 files and 20,000 lines; these limits follow the code downwards.
    assert code.files <= 150
    assert code.lines <= 34_169
    # The longest one holds the loader's Numba kernels; two files of kernels would be imported together anyway.
    assert code.longest_file <= 496


def test_no_file_is_too_small_to_be_one(code: Measures) -> None:
    assert code.short_files == ()


def test_plain_density(code: Measures) -> None:
    assert code.conditionals <= 12
    assert code.wide <= 4.1
    assert code.unformatted <= 3


def test_comments_say_why(code: Measures) -> None:
    assert code.comments >= 1.8


def test_a_small_tree_is_measured_by_hand(tmp_path: Path) -> None:
    package = tmp_path / "smae"
    package.mkdir()
    (package / "a.py").write_text(
        '"""A."""\n\nx = 1 if True else 2  # why\n\n\ndef f():\n    """Do."""\n    # why\n    return x\n'
    )
    found = measure(tmp_path)
    assert (found.files, found.lines, found.longest_function, found.short_files) == (1, 9, 4, ("smae/a.py",))
    assert found.conditionals == round(1000 / 6, 1)
    assert found.comments == 25.0
