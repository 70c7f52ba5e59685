"""The report as files: what is in it, and that nothing from outside acts in it."""

import base64
import csv
import hashlib
import html.parser
import io
import json
import re
import struct
import zlib

import numpy as np
import pytest
from report_example import CONVENTIONS, make_inside, make_record

from keras_qkformer.analysis.colours import OFF, ON, as_colours
from keras_qkformer.analysis.report import PAGE_FILE, RECORD_FILE, images, tables
from keras_qkformer.analysis.report.gallery import gallery
from keras_qkformer.analysis.report.markup import page, tag
from keras_qkformer.analysis.report.sections import operations
from keras_qkformer.analysis.report.write import (
    comparison_page,
    report_page,
    write_comparison,
    write_report,
)
from keras_qkformer.cli.main import main
from keras_qkformer.files import write_json
from keras_qkformer.forms import AnalysisRecord
from keras_qkformer.json_files import read_json

pytestmark = pytest.mark.backend_independent

HOSTILE = "</script><script>document.title='taken'</script>"


class Page(html.parser.HTMLParser):
    """The elements of a page, and the text of each kind of element."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.open = [], {}, []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in ("meta", "input", "link"):
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        for name in {*self.open}:
            self.texts[name] = self.texts.get(name, "") + data


def full_page(**options):
    record = make_record(**options)
    inside = make_inside(
        examples=2,
        steps=record["model"]["time_steps"],
        classes=len(record["model"]["class_names"]),
        labelled=record["data"]["accuracy"] is not None,
    )
    return report_page(record, gallery(inside, record["model"]["class_names"]))


def test_all_elements_are_closed_and_refer_to_what_is_in_the_page():
    found = Page(full_page())
    assert found.open == []
    names = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(names) == len({*names})
    for name, attributes in found.elements:
        if name == "use":
            assert attributes["href"].removeprefix("#") in names
        for outside in ("src", "style", "srcset"):
            assert outside not in attributes
        if "href" in attributes:
            assert attributes["href"].startswith(("#", "data:image/png;base64,"))
        assert not any(key.startswith("on") for key in attributes)


def test_names_from_outside_stay_text():
    names = [HOSTILE, *(f'<img src=x onerror="{i}">' for i in range(9))]
    record = make_record(name=HOSTILE, class_names=names)
    for values in (record["model"], record["data"], record["settings"]):
        for key, value in values.items():
            if isinstance(value, str):
                values[key] = HOSTILE
    record["command"] = record["date"] = record["operations"][0]["path"] = HOSTILE
    record["neurons"][0]["path"] = record["operations"][0]["stage"] = HOSTILE
    shown = gallery(make_inside(), names)
    for text in (report_page(record, shown), comparison_page([record, record])):
        found = Page(text)
        assert found.open == []
        assert [name for name, _ in found.elements].count("script") == 1
        assert "img" not in dict(found.elements)
        assert HOSTILE[:40] in found.texts["h1"]


def test_only_our_script_and_style_may_run_and_nothing_is_loaded():
    text = full_page()
    found = Page(text)
    (policy,) = (
        attributes["content"]
        for name, attributes in found.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    for name in ("script", "style"):
        digest = hashlib.sha256(found.texts[name].encode()).digest()
        assert rules[f"{name}-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert not re.search(r"https?://|url\(|@import|fetch\(", found.texts["style"])
    assert not re.search(r"https?://|fetch\(|XMLHttp|import\(", found.texts["script"])


def test_an_energy_never_stands_without_its_convention():
    text = report_page(make_record())
    rows = re.findall(r"<(?:li|tr|dd)[^>]*>.*?</(?:li|tr|dd)>", text)
    totals = [row for row in rows if re.search(r"<strong>[0-9.]+ mJ</strong>", row)]
    assert len(totals) == len(CONVENTIONS) + 1
    named = (*CONVENTIONS, "non-spiking twin")
    for name, row in zip(named, totals, strict=True):
        assert name in re.sub("<[^>]*>", " ", row)
    for title in re.findall(r"<title>([^<]* mJ)</title>", text):
        assert any(name in title for name in named), title


def test_numbers_are_those_of_the_record():
    text = Page(full_page()).texts
    assert "99.7 %" in text["ul"]
    assert "reported: 96.18 %" in text["ul"]
    assert "78 M" in text["ul"]  # 1 + 2 + ... + 12 million dense MACs.
    assert "keras-qkformer analyze runs/digits --out report" in text["code"]


def test_what_has_no_value_is_a_dash():
    record = make_record(layers=3)
    cells = str(operations(record)).split("<tr>")[2:]
    assert [">-</td>" in row for row in cells] == [False, False, True]


def test_without_labels_there_is_no_accuracy():
    text = full_page(labelled=False)
    assert "without labels" in text
    assert "top-1 accuracy" not in text
    assert "Confusion" not in text


def test_a_thousand_classes_and_hundreds_of_layers_make_a_page_of_bounded_size():
    text = report_page(make_record(layers=300, classes=1000))
    assert "The most confused of 1,000 classes" in text
    assert re.search(r"class 0</th><td>class 999</td><td[^>]*>4</td>", text)
    assert len(text) < 2_000_000


def test_a_family_without_attention_is_told():
    inside = make_inside()
    inside.attention.clear()
    assert "This family has no attention" in gallery(inside, list("abcdefghij"))


def test_files_hold_the_same_as_the_page(tmp_path):
    record = make_record(class_names=["=1+1", "-2", "c"])
    paths = write_report(tmp_path, record)
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}
    assert paths[0] == tmp_path / PAGE_FILE
    assert json.loads((tmp_path / RECORD_FILE).read_text()) == record
    rows = [*csv.DictReader(io.StringIO((tmp_path / "operations.csv").read_text()))]
    assert [float(row["dense_macs"]) for row in rows] == [
        x["dense_macs"] for x in record["operations"]
    ]
    assert (
        float(rows[3]["energy_mj[strict]"])
        == (record["energy"]["conventions"]["strict"]["by_operation_mj"][3])
    )
    rows = [*csv.DictReader(io.StringIO((tmp_path / "neurons.csv").read_text()))]
    assert (
        float(rows[0]["rate[class =1+1]"])
        == (record["neurons"][0]["rate_by_class"]["=1+1"])
    )
    rows = [*csv.DictReader(io.StringIO((tmp_path / "energy.csv").read_text()))]
    assert [row["convention"] for row in rows] == [*CONVENTIONS]


def test_no_cell_of_a_table_is_a_formula():
    record = make_record()
    record["operations"][0]["path"] = "=HYPERLINK(1)"
    assert "\n'=HYPERLINK(1)," in tables.csv_files(record)["operations.csv"]
    record["operations"][0]["path"] = "\x1b[2J,\n"
    assert '\n"\\x1b[2J,\\n",' in tables.csv_files(record)["operations.csv"]


def test_the_table_of_a_paper_has_a_column_for_each_convention():
    table = tables.paper_table([make_record()])
    head, line, row, empty, note = table.splitlines()
    cells = [cell.strip() for cell in row.split("|")]
    found = dict(zip((c.strip() for c in head.split("|")), cells, strict=True))
    assert line.count("|") == head.count("|") == row.count("|")
    assert found["Top-1 reported (%)"] == "96.18"
    assert found["Top-1 measured (%)"] == "99.72"
    assert found["MACs, dense (G)"] == "0.0780"
    assert {f"Energy, {name} (mJ)" for name in CONVENTIONS} <= {*found}
    assert tables.paper_table([make_record(name="a|b\n")] * 2).count("\n") == 6
    # What the numbers are, without the report at hand.
    assert not empty
    assert "45nm_float32: 4.60 pJ a MAC, 0.900 pJ an accumulate" in note
    for name in CONVENTIONS:
        assert f"{name}, the source of {name}" in note
    assert "Top-1 reported: by the source of the preset; measured: in this" in note


def test_models_of_several_families_stand_side_by_side(tmp_path):
    records = [make_record(), make_record("events", layers=20, labelled=False)]
    del records[1]["energy"]["conventions"]["strict"]
    write_comparison(tmp_path, records)
    text = (tmp_path / PAGE_FILE).read_text()
    for name in CONVENTIONS:
        assert (f"<title>{name}, events: " in text) == (name != "strict")
    assert json.loads((tmp_path / RECORD_FILE).read_text())["models"] == records
    same = comparison_page([records[0]] * 2)
    assert "digits (1)" in same
    assert "digits (2)" in same


def test_every_line_of_many_models_has_a_colour():
    text = comparison_page([make_record(str(i)) for i in range(8)])
    style = Page(text).texts["style"]
    for kind in {*re.findall(r'class="curve (\w+)"', text)}:
        assert f".curve.{kind} {{ stroke: " in style


def test_a_report_is_read_back(tmp_path):
    record = make_record()
    write_report(tmp_path, record)
    assert read_json(tmp_path / RECORD_FILE, AnalysisRecord) == record
    write_comparison(tmp_path, [record, record])
    with pytest.raises(ValueError, match="model: Field required"):
        read_json(tmp_path / RECORD_FILE, AnalysisRecord)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r["model"].update(reported={"accuracy_percent": "a"}), "valid num"),
        (lambda r: r["operations"][0].update(dense_macs=1e308), "less than or equal"),
        (lambda r: r["operations"].pop(), "an energy for each of the"),
    ],
)
def test_a_report_of_others_is_compared_or_one_line(tmp_path, capsys, change, said):
    for name in ("first", "second"):
        record = make_record()
        change(record)
        write_report(tmp_path / name, make_record())
        write_json(tmp_path / name / RECORD_FILE, record)
    places = [str(tmp_path / name) for name in ("first", "second")]
    out = str(tmp_path / "out")
    assert main(["analyze", "--compare", *places, "--out", out]) == 2
    assert said in capsys.readouterr().err


def decode(uri):
    """Width, height, colour type and bytes of a PNG, as the format says."""
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, data = {}, data[8:]
    while data:
        (length,) = struct.unpack(">I", data[:4])
        kind, body = data[4:8], data[8 : 8 + length]
        assert struct.unpack(">I", data[8 + length : 12 + length])[0] == zlib.crc32(
            kind + body
        )
        chunks[kind], data = body, data[12 + length :]
    width, height, _, colour_type = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), "u1").reshape(height, -1)
    assert not rows[:, 0].any()
    return width, height, colour_type, rows[:, 1:], chunks


def test_pictures_are_whole_png_files():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3))
    width, height, colour_type, rows, _ = decode(images.colour_uri(pixels / 255))
    assert (width, height, colour_type) == (5, 3, 2)
    np.testing.assert_array_equal(rows.reshape(3, 5, 3), pixels)


def test_a_veil_is_the_denser_the_larger_the_value():
    values = np.array([[0.0, 0.5], [1.0, 0.0]])
    *_, rows, chunks = decode(images.veil_uri(values, (1, 2, 3), opacity=0.8))
    alphas = np.frombuffer(chunks[b"tRNS"], "u1")[rows]
    np.testing.assert_array_equal(alphas, [[0, 102], [204, 0]])
    assert chunks[b"PLTE"] == bytes((1, 2, 3)) * 3


def test_events_are_blue_and_vermilion_on_white():
    frames = np.zeros((1, 1, 3, 2))
    frames[0, 0, 0, 0] = frames[0, 0, 1, 1] = 1
    np.testing.assert_allclose(as_colours(frames)[0, 0] * 255, [OFF, ON, (255,) * 3])


def test_markup_alone_is_not_escaped():
    inner = tag("b", "<", title='"')
    assert inner == '<b title="&quot;">&lt;</b>'
    assert tag("p", inner, ["&", None]) == f"<p>{inner}&amp;</p>"
    assert "<title>&lt;</title>" in page("<", inner)
