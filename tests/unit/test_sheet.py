"""The sample sheet survives writing and reading, and names every line that it cannot use."""

from __future__ import annotations

import os
import re
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cvdm_core.config import NAME_PATTERN
from cvdm_core.errors import UserError
from cvdm_core.sheet import COLUMNS, Acquisition, clean_name, find_acquisition, is_name, read_rows, read_sheet, write_sheet

NAMES = st.from_regex(NAME_PATTERN, fullmatch=True, alphabet=st.characters(codec="ascii"))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LENGTHS = st.none() | st.floats(1e-6, 1e6)
CHANNELS = st.lists(st.text(string.ascii_letters + " -µ'\"<>\t\n", min_size=1), max_size=3).map(tuple)
ROWS = st.builds(
    Acquisition,
    acquisition=NAMES,
    specimen=NAMES,
    split=st.sampled_from(["train", "val", "test", "predict"]),
    input=TEXT.filter(bool),
    target=TEXT,
    note=TEXT,
    stated_pixel_size_um=LENGTHS,
    stated_z_step_um=LENGTHS,
    stated_channels=CHANNELS,
    na=LENGTHS,
    emission_nm=st.lists(st.floats(100, 3000), max_size=3).map(tuple),
    size_t=st.integers(0, 10**6),
    size_c=st.integers(0, 10**6),
    size_z=st.integers(0, 10**6),
    size_y=st.integers(0, 10**6),
    size_x=st.integers(0, 10**6),
    dtype=st.sampled_from(["", "uint16", "float32"]),
    pixel_size_um=LENGTHS,
    pixel_size_source=st.sampled_from(["", "metadata", "stated"]),
    channels=CHANNELS,
)
HEADER = "acquisition\tspecimen\tsplit\tinput"


def sheet(folder: Path, *lines: str) -> Path:
    path = folder / "acquisitions.tsv"
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return path


def problem(path: Path) -> str:
    """Return what is wrong with the only line that is unusable."""
    (line,) = read_rows(path)[1]
    return line.problem


def rounded(row: Acquisition) -> dict[str, object]:
    values = row.model_dump()
    values["emission_nm"] = tuple(pytest.approx(value) for value in row.emission_nm)
    return {key: pytest.approx(value) if isinstance(value, float) else value for key, value in values.items()}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=st.lists(ROWS, max_size=4, unique_by=lambda row: row.acquisition.lower()))
def test_what_is_written_is_what_is_read(tmp_path: Path, rows: list[Acquisition]) -> None:
    write_sheet(tmp_path / "a.tsv", {row.acquisition: row for row in rows})
    found = read_sheet(tmp_path / "a.tsv")
    assert list(found) == [row.acquisition for row in rows]
    for row in rows:
        assert rounded(row) == found[row.acquisition].model_dump()


@settings(max_examples=300)
@given(text=st.text() | st.sampled_from(["../x", "a b", "$(rm -rf ~)", "<script>", "it's", '"', "", "...", "x" * 99, "a\n"]))
def test_the_proposed_name_is_always_usable(text: str) -> None:
    assert is_name(clean_name(text))
    if is_name(text) and text[-1].isalnum():
        assert clean_name(text) == text


@pytest.mark.parametrize("name", ["../x", "a b", "it's", 'a"b', "$(touch x)", "<script>", ".hidden", "-rf", "x" * 65, "ü", "a/b"])
def test_a_name_that_could_do_harm_is_refused_with_a_proposal(tmp_path: Path, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    said = problem(sheet(tmp_path, f"{quoted}\ts\tpredict\tx.tif"))
    proposed = re.search(r"line 2: acquisition = .* no usable name.*for example '([^']*)'", said)
    assert proposed and is_name(proposed[1])


def test_names_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    path = sheet(tmp_path, "a\ts\tpredict\tx.tif", "A\ts\tpredict\ty.tif")
    assert "line 3: the name 'A' stands already" in problem(path) and list(read_sheet(path)) == ["a"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a\ts\tpredikt\tx.tif", "split = 'predikt'"),
        ("a\ts\tpredict\t", "'input' is missing or empty"),
        ("a\ts\tpredict\tx.tif\tmore", "more fields"),
        ("a", "'specimen' is missing"),
    ],
)
def test_a_line_that_is_no_row_is_named_and_costs_the_others_nothing(tmp_path: Path, line: str, words: str) -> None:
    path = sheet(tmp_path, line, "b\ts\tpredict\ty.tif")
    assert "line 2" in problem(path) and words in problem(path) and list(read_sheet(path)) == ["b"]
    with pytest.raises(UserError, match=r"line 2: .*It is left out until somebody mends the line"):
        find_acquisition(path, "a")


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "abc"])
def test_a_length_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(f"{HEADER}\tstated_pixel_size_um\na\ts\tpredict\tx.tif\t{value}\n")
    assert "stated_pixel_size_um" in problem(path)


def test_a_file_that_is_no_sheet_gets_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    for content, words in [(b"\xff\xfe", "UTF-8"), (b"acquisition,specimen\n", "not known"), (b"input\tinput\n", "stands twice")]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=words):
            read_sheet(path)
    with pytest.raises(UserError, match="no sample sheet"):
        read_sheet(tmp_path / "missing.tsv")


def test_what_spreadsheets_do_to_a_sheet_is_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    empty = "\t".join("" for _ in COLUMNS)
    path.write_bytes(
        ("\ufeff" + "\t".join(COLUMNS) + "\r\n" + "a\ts\tpredict\tx.tif" + "\t" * (len(COLUMNS) - 4) + f"\r\n{empty}\r\n\r\n").encode()
    )
    assert list(read_sheet(path)) == ["a"]


def test_lines_that_are_no_rows_are_kept_in_their_places_passed_over_and_tried_again(tmp_path: Path) -> None:
    path = sheet(tmp_path, "a\ts\tpredict\tx.tif", "b c\ts\tpredict\ty.tif\tsurplus", "d\ts\tpredikt\tz.tif", "e\ts\tpredict\tz.tif")
    rows, unusable = read_rows(path)
    assert list(rows) == ["a", "e"] and [line.acquisition for line in unusable] == ["b c", "d"]
    for _ in range(2):
        write_sheet(path, rows, unusable)
        assert list(read_sheet(path)) == ["a", "e"]
        assert [line.split("\t")[0] for line in path.read_text().splitlines()[1:]] == ["a", "#refused:b c", "#refused:d", "e"]
        rows, unusable = read_rows(path)
        assert list(rows) == ["a", "e"] and unusable[0].cells["input"] == "y.tif" and unusable[0].cells[""] == "surplus"
    path.write_text(path.read_text().replace("b c", "b_c").replace("\tsurplus", ""))
    assert list(read_sheet(path)) == ["a", "b_c", "e"]  # without its mark being taken away


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_quotation_mark_that_takes_the_lines_below_with_it_is_refused(tmp_path: Path, end: str) -> None:
    path = tmp_path / "a.tsv"
    lines = [f"{HEADER}\tnote", *(f"{name}\ts\tpredict\tx.tif\t{{}}" for name in "abcd")]
    for first, last in [("", ""), ("", 'a disk of 60"'), ('a "good" one', '"bad"')]:
        path.write_bytes(end.join([*lines, ""]).format(first, '"5 min after drug', "", last).encode())
        with pytest.raises(UserError, match="line 3: a cell begins with a quotation mark and does not end with one"):
            read_sheet(path)


def test_quotation_marks_that_are_words_stay_words(tmp_path: Path) -> None:
    notes = {
        'a 60" dish': 'a 60" dish',
        '"bright" day': '"bright" day',
        '"two\n""lines"" and\ta tab"': 'two\n"lines" and\ta tab',
        '"x': '"x',
    }
    path = tmp_path / "a.tsv"
    lines = [f"a{number}\ts\tpredict\tx.tif\t{note}" for number, note in enumerate(notes)]
    path.write_text("\n".join([f"{HEADER}\tnote", *lines]) + "\n")
    for _ in range(2):
        assert [row.note for row in read_sheet(path).values()] == list(notes.values())
        write_sheet(path, read_sheet(path))


def test_a_sheet_that_is_a_link_stays_one_and_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    real = sheet(tmp_path / "shared", "a\ts\tpredict\tx.tif")
    real.chmod(0o664)
    link = tmp_path / "a.tsv"
    link.symlink_to(real)
    before = os.umask(0o022)
    try:
        write_sheet(link, {})
    finally:
        os.umask(before)
    assert link.is_symlink() and not read_sheet(real) and real.stat().st_mode & 0o777 == 0o664
    real.unlink()
    with pytest.raises(UserError, match=r"a\.tsv: it is a link to a sample sheet that is not there; is its file server mounted\?"):
        read_sheet(link)


def test_a_reader_never_sees_half_a_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sheet(tmp_path, "a\ts\tpredict\tx.tif")
    before = path.read_bytes()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        write_sheet(path, {})
    assert path.read_bytes() == before
