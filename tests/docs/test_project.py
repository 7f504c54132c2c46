"""What stands around the code is of this version, and the forms for issues are forms."""

from __future__ import annotations

import re

import pytest

from smae import __version__
from tests.docs.blocks import ROOT

FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.md"))


def test_the_citation_and_the_changelog_are_of_this_version() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.search(rf"^## {re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_readme_is_short_and_in_the_order_of_a_first_hour() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text) <= 9_000
    assert text.index("docs/view.gif") < text.index("\n## ")
    sections = "Results, Install, The three commands, From Python, A method of your own, How it compares"
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == [*sections.split(", "), "Documentation", "Citation"]


def test_there_are_forms_for_bugs_wrong_data_and_methods() -> None:
    assert {form.stem for form in FORMS} == {"bug", "wrong-data", "new-method"}
    assert "smae doctor" in (ROOT / ".github/ISSUE_TEMPLATE/bug.md").read_text()
    assert (ROOT / ".github/pull_request_template.md").is_file()


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_a_form_begins_with_what_the_list_of_forms_shows(form) -> None:
    head = re.match(r"---\n(.*?)\n---\n", form.read_text(), re.DOTALL)
    assert head
    keys = [line.partition(": ")[0] for line in head[1].splitlines()]
    assert keys == ["name", "about", "title", "labels"]
