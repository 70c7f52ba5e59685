"""Layouts of image folders and zips: splits or none, inner folders, lists of labels."""

import re

import pytest
from fake_images import colour_png, zip_folder

from keras_qkformer.data.images.layouts import find_layout
from keras_qkformer.data.sources import get_source, load_split

pytestmark = pytest.mark.backend_independent
IMAGE = colour_png("ant", (4, 4))


def write(root, *names, **texts):
    """Write images of these names, and texts whose names have `__` for a slash."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(IMAGE)
    for name, text in texts.items():
        path = root / re.sub("__", "/", name).replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def kept(root, split):
    """`{class: sorted names}` of the images of a split, and the source."""
    source = get_source("folder", data_dir=str(root))
    inputs, labels = source.load(split, lambda count: (0, count))
    found = {}
    for number, label in zip(inputs.numbers, labels, strict=True):
        found.setdefault(source.class_names[label], []).append(inputs.names[number])
    found = {
        name: sorted(place.removeprefix(f"{root}/") for place in places)
        for name, places in found.items()
    }
    return found, source


@pytest.fixture(params=["folder", "zip"])
def packed(request):
    return (lambda root: root) if request.param == "folder" else zip_folder


CLASSES = ("ant/1.png", "ant/2.png", "bee/3.png", "bee/4.png")


def test_classes_without_splits_are_the_split_train(tmp_path, packed):
    root = write(tmp_path / "photos", *CLASSES, "top.png", ant__note_dot_txt="hers")
    root = packed(root)
    found, source = kept(root, "train")
    assert found == {"ant": [*CLASSES[:2]], "bee": [*CLASSES[2:]]}
    parts = [load_split(source, split)[1] for split in ("train[:75%]", "train[75%:]")]
    assert [len(labels) for labels in parts] == [3, 1]
    with pytest.raises(
        ValueError,
        match=(
            r"one of \['train'\].*'test' .*no splits.* 2 classes; slices of it serve "
            r"as others: --set data.train=train\[:80%\] --set "
            r"data.validation=train\[80%:90%\] --set data.test=train\[90%:\]"
        ),
    ):
        load_split(source, "test")


TINY = (
    *("train/n01/images/n01_0.JPEG", "train/n01/images/n01_1.JPEG"),
    *("train/n02/images/n02_0.JPEG", "val/images/val_0.JPEG", "val/images/val_1.JPEG"),
    "test/images/test_0.JPEG",
)
BOXES = "n01_0.JPEG\t0\t10\t63\t58\n"
TEXTS = {
    "val__val_annotations_dot_txt": "val_1.JPEG\tn01\t0\t32\t44\t62\n"
    "val_0.JPEG\tn02\t52\t55\t57\t59\n",
    "words_dot_txt": "n01\tant\n",
    "train__n01__n01_boxes_dot_txt": BOXES,
    "train__n02__n02_boxes_dot_txt": BOXES,
}


@pytest.mark.parametrize("above", ["", "tiny-imagenet-200/"])
def test_tiny_imagenet_is_read_as_it_is(tmp_path, packed, above):
    root = tmp_path / "tiny"
    write(root / above, *TINY, **TEXTS)
    root = packed(root)
    found, source = kept(root, "train")
    assert found == {
        "n01": [f"{above}{name}" for name in TINY[:2]],
        "n02": [f"{above}{TINY[2]}"],
    }
    assert kept(root, "val")[0] == {
        "n01": [f"{above}val/images/val_1.JPEG"],
        "n02": [f"{above}val/images/val_0.JPEG"],
    }
    assert source.damaged == {}
    with pytest.raises(
        ValueError, match=r"need labels.*test\.txt.*'test'.*without lab"
    ):
        load_split(source, "test")


FLAT = ("val/v_1.JPEG", "val/v_2.JPEG", "val/v_3.JPEG")
LISTS = {
    "val_dot_txt": "v_1.JPEG 0\nv_2.JPEG 1\nv_3.JPEG 0\n",
    "val__labels_dot_txt": "# name class\nval/v_3.JPEG n01\nv_1 n01\nv_2 n02\n",
    "val__synsets_dot_txt": "n01\nn02\nn01\n",
    "val_dot_csv": "ImageId,PredictionString\nv_1,n01 85 1 499 272\nv_2,n02 0 0 9 9\n"
    "v_3,n01 1 1 2 2 n01 3 3 4 4\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_validation_images_of_imagenet_have_their_labels_in_a_list(
    tmp_path, packed, name
):
    root = write(tmp_path / "imagenet", "train/n01/a.JPEG", "train/n02/b.JPEG", *FLAT)
    write(root, **{name: LISTS[name]})
    found, source = kept(packed(root), "val")
    assert found == {"n01": [FLAT[0], FLAT[2]], "n02": [FLAT[1]]}
    assert (source.class_names, source.damaged) == (("n01", "n02"), {})


def test_lists_alone_name_the_classes(tmp_path, packed):
    root = write(
        tmp_path / "lists",
        *("train/1.png", "train/2.png", "train/3.png", "test/1.png"),
        train_dot_txt="1.png 2\n2.png 10\n3.png 2",
        test_dot_txt="1.png 10",
    )
    with pytest.warns(UserWarning, match="split 'test' has no images of 2"):
        found, source = kept(packed(root), "test")
    assert source.class_names == ("10", "2")
    assert found == {"10": ["test/1.png"]}


@pytest.mark.parametrize("text", ["ant\nbee\nant", "1.png ant\n2.png bee\n3.png ant"])
def test_a_list_may_be_written_on_windows(tmp_path, text):
    """With the mark that its editors put first, and its ends of lines."""
    root = write(tmp_path / "lists", "train/1.png", "train/2.png", "train/3.png")
    (root / "train.txt").write_text(text, "utf-8-sig", newline="\r\n")
    found, source = kept(root, "train")
    assert (source.class_names, source.damaged) == (("ant", "bee"), {})
    assert found == {"ant": ["train/1.png", "train/3.png"], "bee": ["train/2.png"]}


def test_images_and_lines_without_partners_are_left_out_and_told(tmp_path):
    root = write(tmp_path / "data", *(f"train/{name}" for name in CLASSES))
    write(root, *FLAT, val_dot_txt="v_1.JPEG ant\nv_2.JPEG bee\nv_9.JPEG bee\n")
    found, source = kept(root, "val")
    assert found == {"ant": [FLAT[0]], "bee": [FLAT[1]]}
    assert source.damaged == {
        f"{root}/v_9.JPEG": "val.txt has it, but it is not there",
        f"{root}/{FLAT[2]}": "val.txt does not have it",
    }
    with pytest.raises(ValueError, match="An image must be whole"):
        get_source("folder", data_dir=str(root), strict=True)


def test_an_empty_class_warns_unless_it_is_to_be_trained(tmp_path, packed):
    root = write(
        tmp_path / "data", "train/ant/1.png", "train/bee/2.png", "test/ant/3.png"
    )
    (root / "test" / "bee").mkdir()
    with pytest.warns(UserWarning, match="'test' has no images of bee"):
        found, source = kept(packed(root), "test")
    assert found == {"ant": ["test/ant/3.png"]}
    assert source.class_names == ("ant", "bee")


@pytest.mark.parametrize(
    ("names", "texts", "message"),
    [
        (["a.png"], {}, "list train.txt .* folder per class. Received: no images in"),
        (
            ["train/a.png", "test/b.png"],
            {},
            "Received: test has images without labels; train has images without labels",
        ),
        (["ant/a.png"], {"bee__b_dot_txt": "-"}, "none in .*train/bee .*no spl"),
        (
            ["train/ant/1.png", "val/1.png"],
            {"val__a_dot_txt": "", "val__b_dot_txt": ""},
            "one list of their labels. Received: val/a.txt, val/b.txt",
        ),
        (
            ["train/ant/1.png", "val/1.png"],
            {"val_dot_txt": "1.png cat"},
            "val.txt must be one of the 1 folders.* Received: 'cat'",
        ),
        (
            ["train/ant/1.png", "val/1.png"],
            {"val_dot_txt": "1.png 1"},
            "its number from 0. Received: '1'",
        ),
        (
            ["train/ant/1.png", "val/1.png"],
            {"val_dot_txt": "1.png ant\n1.png ant"},
            "each image once. Received: '1.png ant'",
        ),
        (
            ["train/ant/1.png", "val/1.png"],
            {"val_dot_csv": "name,class\n1.png,"},
            "an image and its class",
        ),
        (
            ["train/ant/1.png", "val/1.png"],
            {"val_dot_txt": "2.png ant\n"},
            "must name the images beside it. Received: 1 lines",
        ),
        (
            ["train/ant/1.png", "val/1.png"],
            {"val_dot_txt": "ant\nant"},
            "2 lines for 1 images",
        ),
        (
            ["train/ant/1.png", "val/1.png"],
            {"val_dot_txt": "490"},
            "numbers alone have no agreed order. Received: '490'",
        ),
    ],
)
def test_what_does_not_fit_is_told_with_the_layout(tmp_path, names, texts, message):
    root = write(tmp_path / "data", *names, **texts)
    with pytest.raises(ValueError, match=message):
        get_source("folder", data_dir=str(root))


def test_a_list_reaches_nothing_outside_of_its_folder(tmp_path):
    write(tmp_path, "secret.png")
    root = write(tmp_path / "data", "train/ant/1.png", "val/1.png")
    write(root, val_dot_txt="1.png ant\n../../secret.png ant\n/etc/passwd ant\n")
    found, source = kept(root, "val")
    assert found == {"ant": ["val/1.png"]}
    assert len(source.damaged) == 2


def test_a_list_is_read_up_to_a_limit(tmp_path):
    root = write(tmp_path / "data", "train/ant/1.png", "val/1.png", val_dot_txt="")
    with (root / "val.txt").open("r+b") as file:
        file.truncate(1 << 40)  # A hole, which takes no room on the disk.
    with pytest.raises(ValueError, match="more than 67108864 bytes"):
        get_source("folder", data_dir=str(root))


def test_a_folder_within_a_single_split_is_not_taken_for_a_split():
    inside = {"": ["train"], "train": ["ant"], "train/ant": ["deeper"]}

    class Tree:
        def folders(self, place):
            return inside.get(place, [])

        def images(self, place):
            return [f"{place}/1.png"] if place == "train/ant" else []

        def texts(self, place):
            return []

    assert find_layout(Tree()).splits == {"train": {"ant": ["train/ant/1.png"]}}
