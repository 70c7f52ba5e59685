"""The pages of the site before it is built: names, commands and code."""

import dataclasses
import importlib.util
import inspect
import re
from pathlib import Path

import pytest
from first_minutes import steps_of

import keras_qkformer

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
pytestmark = [
    pytest.mark.backend_independent,
    pytest.mark.skipif(not DOCS.is_dir(), reason="needs a checkout"),
]


def making(name):
    """Import a module of `docs/making`."""
    return imported(DOCS / "making" / f"{name}.py", f"docs_making_{name}")


def imported(path, name):
    """Import a file as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:  # They import each other.
        patch.syspath_prepend(path.parent)
        spec.loader.exec_module(module)
    return module


def resolve(dotted):
    """Return the object with a dotted name."""
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_every_public_name_is_in_the_reference_once():
    names = [name for page in making("reference").entries().values() for name in page]
    objects = {id(resolve(name)): name for name in names}
    assert len(objects) == len(names)
    packages = [
        keras_qkformer,
        *(
            getattr(keras_qkformer, name)
            for name in keras_qkformer.__all__
            if inspect.ismodule(getattr(keras_qkformer, name))
        ),
    ]
    for package in packages:
        for name in getattr(package, "__all__", ()):
            public = getattr(package, name)
            if not inspect.ismodule(public):
                assert id(public) in objects, f"{package.__name__}.{name}"


def test_every_public_module_of_the_reference_is_there():
    pages = making("reference").reference_pages()
    for page, names in making("reference").entries().items():
        for name in names:
            assert pages[f"reference/{page}.md"].count(f"::: {name}\n") == 1


def test_first_minutes_play_the_first_pages():
    """All commands of README, start and home; blocks that the build leaves to it."""
    makefile = (ROOT / "Makefile").read_text()
    pages = re.search(r"^PLAYED := (.*)$", makefile, re.MULTILINE)[1].split()
    played = [ROOT / page for page in pages]
    texts = [text for _, text in steps_of(played)]
    commands = {text.partition("#")[0].strip() for text in texts}
    for page in (ROOT / "README.md", DOCS / "start.md", DOCS / "index.md"):
        text = page.read_text()
        found = re.findall(r"^ {4}(keras-qkformer [^#\n]*)", text, re.MULTILINE)
        assert found, page
        assert {command.strip() for command in found} <= commands, page
    left = {DOCS / page for page, why in reasons() if "make first-minutes" in why}
    assert DOCS / "python.md" in left
    for page in (ROOT / "README.md", *left):
        assert page in played
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
        assert blocks and {*blocks} <= {*texts}, page


def reasons():
    """`(page, why)` of the Python blocks that the build leaves out."""
    pages = making("page_blocks")
    for path in sorted(DOCS.rglob("*.md")):
        for match in pages.FENCE.finditer(path.read_text()):
            if match["why"]:
                yield path.relative_to(DOCS), match["why"]


def test_the_readme_is_one_screen_whose_links_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 60
    goals = re.findall(r"\]\((?!https?:)([^)#]+)(?:#([^)]*))?\)", text)
    assert len(goals) > 15
    for path, anchor in goals:
        assert (ROOT / path).is_file(), path
        heads = re.findall(
            r"^#+ (.*)$",
            (ROOT / path).read_bytes().decode(errors="replace"),
            re.MULTILINE,
        )
        assert not anchor or anchor in {h.lower().replace(" ", "-") for h in heads}


def test_an_index_of_packages_shows_links_that_work_or_none():
    description = imported(ROOT / "setup.py", "ours_of_setup").description
    text = "[a](b.md#c) ![p](d.png) [e](https://f)"
    assert description(text, "") == "a  [e](https://f)"
    assert description(text, "https://host/owner/name") == (
        "[a](https://host/owner/name/blob/HEAD/b.md#c) "
        "![p](https://host/owner/name/raw/HEAD/d.png) [e](https://f)"
    )
    readme = description((ROOT / "README.md").read_text(), "")
    assert not re.search(r"\]\((?!https:)", readme)


def test_every_python_block_of_the_pages_is_run_by_the_build_or_says_why_not():
    pages = making("page_blocks")
    ran, others = ({found[:2] for found in pages.blocks(run)} for run in (True, False))
    assert {("energy.md", 0), ("families/max_former.md", 0)} <= ran
    assert ("weights/README.md", 0) in ran
    assert {("start.md", 0), ("saved_models/README.md", 0)} <= others
    assert not ran & others
    for page, _, text in pages.blocks(run=False):
        compile(text, page, "exec")
    with pytest.raises(ZeroDivisionError):
        pages.run([("page.md", 0, "1 / 0")])


def test_every_tutorial_is_in_the_list_of_tutorials():
    """Its order is that of the navigation; the site has no other tutorials."""
    names = [Path(page).stem for page in making("tutorial_pages").tutorial_pages()]
    assert sorted(names) == sorted(p.stem for p in (DOCS / "tutorials").glob("*.py"))


def test_a_tutorial_ends_with_what_to_read_next_and_describes_its_figures():
    for path in (DOCS / "tutorials").glob("*.py"):
        *_, last = path.read_text().split("# %%")
        assert "\n## What to read next\n" in last, path.name
        alts = re.findall(r'^# %% alt="([^"]*)"$', path.read_text(), re.MULTILINE)
        assert alts and all(len(alt) > 30 for alt in alts), path.name


def test_every_page_is_in_the_navigation():
    """So that a new page is seen here, not first when the site is built."""
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert {page for page in pages if page not in navigation} == set()


def test_directives_take_code_of_the_package():
    directives = making("directives")
    text = directives.with_directives("{{code ops/neuron.py Neuron.charge}}")
    assert text.startswith('```python title="keras_qkformer/ops/neuron.py"\ndef charge')
    with pytest.raises(KeyError):
        directives.with_directives("{{code ops/neuron.py Neuron.gone}}")


def test_links_between_files_become_links_between_pages():
    text = making("adopted").rewrite_links(
        "[a](../docs/tpu.md#b) [c](results/) `[d](e)` [f](../docs/tutorials/energy.py)",
        "benchmarks/NOTES.md",
        "n.md",
    )
    assert text == "[a](tpu.md#b) [c](measured.md) `[d](e)` [f](tutorials/energy.md)"


def test_without_npm_the_page_says_what_is_left_out(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(DOCS / "making")
    drawing, directives = making("drawing"), making("directives")
    monkeypatch.setattr(drawing, "DOWNLOADS", tmp_path / "npm")
    monkeypatch.setattr(directives, "MADE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    drawing.write_drawing(tmp_path / "assets" / "draw", "state")
    assert capsys.readouterr().out.endswith("is left out: it needs npm\n")
    assert not (tmp_path / "assets").exists()
    page = directives.with_directives("{{panel drawing}}\n")
    assert "!!! note" in page and "npm could not be reached" in page
    # Nothing else is taken for the package.
    name = f"{drawing.RUNTIME}-{drawing.VERSION}.tgz"
    (tmp_path / "npm" / name).write_bytes(b"something else")
    with pytest.raises(ValueError, match="must have the SHA-512"):
        drawing.fetched()


def test_the_drawing_page_charges_each_event_frame_and_an_image_once(monkeypatch):
    from keras_qkformer.analysis.energy import CONVENTIONS
    from keras_qkformer.analysis.operations import Operation

    monkeypatch.syspath_prepend(DOCS / "making")
    costs = making("drawing").costs
    sizes = {"parameters": 3, "steps": 3, "macs": 12, "macs_once": 12, "biases": 0}
    sizes |= {"inputs": 4, "outputs": 4}
    first = Operation(path="p", kind="dense", stage="s", is_first=True, **sizes)
    found = [costs(first, CONVENTIONS["qkformer"], static) for static in (True, False)]
    assert [each["macs"] for each in found] == [[12, 0, 0], [4, 4, 4]]
    assert [each["accumulates"] for each in found] == [0, 0]
    later = dataclasses.replace(first, is_first=False)
    later = costs(later, CONVENTIONS["qkformer"], False)
    assert later == {"path": "p", "macs": [0, 0, 0], "accumulates": 12}
