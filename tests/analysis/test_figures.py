"""The figures: what they show is looked up in the Matplotlib objects they save."""

import importlib
import sys

import keras
import numpy as np
import pytest
from harness import to_numpy
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from model_harness import TINY, random_inputs, settle

from keras_qkformer import QKFormerBackbone, QKFormerClassifier
from keras_qkformer.analysis.attention import stage_activity, token_masks
from keras_qkformer.analysis.figures import confusion, images, sheet, spikes, training
from keras_qkformer.analysis.figures import events as figures_events

once = pytest.mark.backend_independent  # What is drawn; masks are tested on each.
NAMES = ["ant", "bee", "cat", "dog", "eel"]
DVS = {"image_size": (32, 64), "family": "dvs", "static": False}
HISTORY = {
    "loss": [2.0, 1.5, 0.7, 0.3],
    "accuracy": [0.2, 0.5, 0.8, 0.9],
    "val_loss": [2.1, 1.6, 1.0, 1.1],
    "val_accuracy": [0.1, 0.6, 0.7, 0.7],
}


@pytest.fixture
def drawn(monkeypatch):
    """Function from what a plot function returned to the figure that it saved."""
    figures = []
    savefig = Figure.savefig

    def save(self, *args, **kwargs):
        figures.append(self)
        savefig(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", save)

    def check(path):
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        pixels = imread(path)[..., :3]
        assert min(pixels.shape[:2]) > 300
        assert pixels.std() > 0.05
        return figures[-1]

    return check


def new_model(**arguments):
    backbone = QKFormerBackbone(**{**TINY, **arguments})
    return settle(QKFormerClassifier(backbone, num_classes=5))


def images_by_row(figure):
    """What the figure shows, top to bottom, each row from left to right."""
    rows = {}
    for axes in figure.axes:
        for image in axes.get_images():
            top = round(axes.get_position().y1, 6)
            rows.setdefault(top, []).append((axes.get_position().x0, image))
    return [
        [image for _, image in sorted(rows[top], key=lambda entry: entry[0])]
        for top in sorted(rows, reverse=True)
    ]


def texts(figure):
    return "\n".join(text.get_text() for text in figure.texts)


@once
def test_training_shows_every_curve_and_the_first_best_epoch(drawn, tmp_path):
    figure = drawn(training.plot_training(HISTORY, tmp_path / "training.png"))
    loss, accuracy = figure.axes
    for axes, keys in (
        (loss, ("loss", "val_loss")),
        (accuracy, ("accuracy", "val_accuracy")),
    ):
        curves = {line.get_label(): line for line in axes.lines}
        for label, key in zip(("training", "validation"), keys, strict=True):
            np.testing.assert_array_equal(curves[label].get_xdata(), [1, 2, 3, 4])
            np.testing.assert_array_equal(curves[label].get_ydata(), HISTORY[key])
    best = accuracy.lines[-1]
    assert best.get_label() == "best: 70.0% in epoch 3"
    assert (*best.get_xdata(), *best.get_ydata()) == (3, 0.7)


@once
def test_training_without_validation_marks_the_training_accuracy(drawn, tmp_path):
    history = {key: HISTORY[key] for key in ("loss", "accuracy")}
    history["learning_rate"] = [0.1, 0.2, 0.3, 0.4]
    figure = drawn(training.plot_training(history, tmp_path / "training.png"))
    _, accuracy, rate = figure.axes
    assert accuracy.lines[-1].get_label() == "best: 90.0% in epoch 4"
    np.testing.assert_array_equal(rate.lines[0].get_ydata(), history["learning_rate"])


@once
def test_training_of_one_epoch_is_visible(drawn, tmp_path):
    history = {key: values[:1] for key, values in HISTORY.items()}
    figure = drawn(training.plot_training(history, tmp_path / "training.png"))
    assert figure.axes[0].lines[0].get_marker() == "o"
    low, high = figure.axes[0].get_xlim()
    ticks = figure.axes[0].get_xticks()
    assert [tick for tick in ticks if low <= tick <= high] == [1]


@once
@pytest.mark.parametrize(
    "change",
    [{"accuracy": [0.5]}, {"accuracy": []}, {"val_loss": [1.0] * 3}],
)
def test_training_refuses_lists_of_several_lengths(change, tmp_path):
    with pytest.raises(ValueError, match=r"one length above 0. Received: lengths"):
        training.plot_training({**HISTORY, **change}, tmp_path / "training.png")


@once
@pytest.mark.parametrize(
    "history", [{}, {"loss": [1.0]}, {"accuracy": [1.0]}, {"loss": [], "accuracy": []}]
)
def test_training_needs_loss_and_accuracy(history, tmp_path):
    with pytest.raises(ValueError, match="must have loss and accuracy"):
        training.plot_training(history, tmp_path / "training.png")


@once
def test_confusion_shows_counts_and_shares_of_each_true_class(drawn, tmp_path):
    labels, predictions = [0, 0, 0, 0, 1, 1], [0, 0, 0, 2, 1, 0]
    names = ["ant", "bee", "$5 or $6"]
    path = tmp_path / "confusion.png"
    figure = drawn(confusion.plot_confusion_matrix(labels, predictions, names, path))
    axes = figure.axes[0]
    shares = axes.get_images()[0].get_array()
    np.testing.assert_array_equal(
        shares.filled(-1), [[0.75, 0, 0.25], [0.5, 0.5, 0], [-1, -1, -1]]
    )
    counts = {text.get_position(): text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "3", (2, 0): "1", (0, 1): "1", (1, 1): "1"}
    assert [tick.get_text() for tick in axes.get_yticklabels()] == names
    assert [tick.get_text() for tick in axes.get_xticklabels()] == names
    assert axes.get_ylabel() == "True class"
    assert axes.get_xlabel() == "Predicted class"
    assert axes.get_title() == "Accuracy 66.7% on 6 examples"


@once
@pytest.mark.parametrize("classes", [2, 10, 40, 50])
def test_numbers_and_names_of_a_confusion_matrix_fit(classes, drawn, tmp_path):
    labels = np.repeat(np.arange(classes), 120)
    predictions = labels.copy()
    predictions[::7] = (labels[::7] + 1) % classes
    names = [f"class {i}" for i in range(classes)]
    path = tmp_path / "confusion.png"
    figure = drawn(confusion.plot_confusion_matrix(labels, predictions, names, path))
    axes = figure.axes[0]
    cell = axes.get_window_extent().width / classes
    assert len(axes.texts) == 2 * classes
    for text in axes.texts:
        extent = text.get_window_extent()
        assert max(extent.width, extent.height) < cell
    for label in axes.get_xticklabels():
        assert label.get_window_extent().width < cell


@once
def test_many_classes_are_a_map_and_the_most_confused_pairs(drawn, tmp_path):
    labels = np.repeat(np.arange(60), 10)
    predictions = labels.copy()
    predictions[:4] = 7  # Of class 0.
    predictions[[100, 101, 300]] = [59, 59, 1]  # Of classes 10 and 30.
    names = [f"class {i}, also called {i}" for i in range(60)]
    path = tmp_path / "confusion.png"
    figure = drawn(confusion.plot_confusion_matrix(labels, predictions, names, path))
    image, pairs, *_ = figure.axes
    assert image.images[0].get_array()[0, 7] == 0.4
    told = [label.get_text() for label in pairs.get_yticklabels()]
    assert told == [
        "class 0 taken for class 7",
        "class 10 taken for class 59",
        "class 30 taken for class 1",
    ]
    assert [text.get_text() for text in pairs.texts] == [
        *(" 4 (40%)", " 2 (20%)", " 1 (10%)"),
    ]
    assert pairs.get_title("left") == "The most confused of 3 pairs: 7 of 7 mistakes"
    width, height = figure.bbox.size
    for text in (*pairs.get_yticklabels(), *pairs.texts):
        extent = text.get_window_extent()
        assert text.get_fontsize() >= 9
        assert 0 <= extent.x0 < extent.x1 <= width and 0 <= extent.y0 < height


@once
def test_no_confusion_of_many_classes_is_drawn_too(drawn, tmp_path):
    labels, names = np.arange(51), [f"{i}" for i in range(51)]
    path = tmp_path / "confusion.png"
    figure = drawn(confusion.plot_confusion_matrix(labels, labels, names, path))
    assert not figure.axes[1].texts


@once
@pytest.mark.parametrize(
    "labels", [[0, 2], [0, -1], [0.0, 1.0], [[0, 1]], [0, 1, 1], [True, False]]
)
def test_confusion_refuses_what_is_not_a_class(labels, tmp_path):
    with pytest.raises(ValueError, match=r"must .* Received: "):
        confusion.plot_confusion_matrix(labels, [0, 1], ["a", "b"], tmp_path / "c.png")
    with pytest.raises(ValueError, match=r"must .* Received: "):
        confusion.plot_confusion_matrix([0, 1], labels, ["a", "b"], tmp_path / "c.png")


@once
def test_confusion_needs_an_example(tmp_path):
    none = np.zeros(0, int)
    with pytest.raises(ValueError, match=r"above 0. Received: \(0,\)"):
        confusion.plot_confusion_matrix(none, none, ["a", "b"], tmp_path / "c.png")


def test_spikes_of_an_image_show_masks_and_stages(drawn, tmp_path):
    model = new_model(depths=(2, 1))
    image = random_inputs(model)[0]
    path = tmp_path / "spikes.png"
    figure = drawn(spikes.plot_spikes(model, image, path, NAMES, label=2))
    masks = token_masks(model, image[None])
    activity = stage_activity(model, image[None])
    expected = [
        masks["stage1_block1"],
        masks["stage1_block2"],
        activity["stage1"],
        activity["stage2"],
    ]
    rows = [row for row in images_by_row(figure) if len(row) == 3]
    for row, x, largest in zip(rows, expected, (1, 1, None, None), strict=True):
        values = x[0].mean(-1)
        for step, shown in enumerate(row):
            np.testing.assert_allclose(shown.get_array(), values[step], atol=1e-6)
            limits = 0, values.max() if largest is None else largest
            np.testing.assert_allclose(shown.get_clim(), limits, rtol=1e-6)
    logits = to_numpy(model(image[None]))[0].astype("float64")
    best = logits.argmax()
    share = np.exp(logits[best]) / np.exp(logits).sum()
    title = f"Predicted: {NAMES[best]} ({share:.0%})     Label: cat"
    assert title in texts(figure)
    assert "Stage 1, block 2\n" in texts(figure)
    assert "4 \u00d7 6, 16 channels" in texts(figure)


@once
def test_spikes_of_events_show_the_frames_in_a_row(drawn, tmp_path):
    model = new_model(**DVS)
    frames = np.zeros(model.input_shape[1:], "float32")
    frames[0, 0, 0, 0] = frames[1, 5, 7, 1] = 3
    figure = drawn(spikes.plot_spikes(model, frames, tmp_path / "spikes.png"))
    rows = images_by_row(figure)
    assert [len(row) for row in rows] == [3, 3, 3, 3]
    first, second, third = (image.get_array() for image in rows[0])
    np.testing.assert_allclose(first[0, 0], to_rgb(sheet.BLUE))
    np.testing.assert_allclose(second[5, 7], to_rgb(sheet.VERMILION))
    np.testing.assert_array_equal(third, np.ones((32, 64, 3)))
    assert "class " in texts(figure)
    assert "Label" not in texts(figure)


def test_spikes_are_drawn_without_token_attention_and_in_16_bits(drawn, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = new_model(attention="channel", in_channels=1)
    image = random_inputs(model)[0]
    figure = drawn(spikes.plot_spikes(model, image, tmp_path / "spikes.png"))
    rows = images_by_row(figure)
    assert sorted(len(row) for row in rows) == [1, 3, 3]
    assert "attention" not in texts(figure)


@once
def test_potentials_have_a_scale_around_zero(drawn, tmp_path):
    model = new_model(residual="pre_activation", in_channels=3)
    image = random_inputs(model)[0]
    figure = drawn(spikes.plot_spikes(model, image, tmp_path / "spikes.png"))
    *_, last = images_by_row(figure)
    low, high = last[0].get_clim()
    assert low == -high < 0
    assert "mean potential" in texts(figure)
    (picture,) = next(row for row in images_by_row(figure) if len(row) == 1)
    colours = picture.get_array()
    assert (colours.min(), colours.max()) == (0, 1)


@once
def test_a_silent_model_is_drawn(drawn, tmp_path):
    model = QKFormerClassifier(QKFormerBackbone(**TINY), num_classes=5)
    image = np.zeros((8, 12, 2), "float32")
    figure = drawn(spikes.plot_spikes(model, image, tmp_path / "spikes.png"))
    rows = [row for row in images_by_row(figure) if len(row) == 3]
    assert len(rows) == 3
    for row in rows:
        for image in row:
            assert image.get_clim() == (0, 1)
            assert not image.get_array().any()


@once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": ["ant"]}, "5 names, one per class. Received: 1 names"),
        ({"label": 5}, "from 0 to 4. Received: label=5"),
        ({"label": "ant"}, "from 0 to 4. Received: label='ant'"),
        ({"image": np.zeros((8, 8, 2))}, r"\(batch, 8, 12, 2\)"),
    ],
)
def test_spikes_refuse_what_does_not_fit_the_model(arguments, message, tmp_path):
    model = QKFormerClassifier(QKFormerBackbone(**TINY), num_classes=5)
    arguments = {"image": np.zeros((8, 12, 2)), **arguments}
    with pytest.raises(ValueError, match=message):
        spikes.plot_spikes(model, path=tmp_path / "spikes.png", **arguments)


@once
def test_spikes_need_a_head(tmp_path):
    model = QKFormerClassifier(QKFormerBackbone(**TINY))
    with pytest.raises(ValueError, match="must have a head"):
        spikes.plot_spikes(model, np.zeros((8, 12, 2)), tmp_path / "spikes.png")


def dots(*places, shape=(3, 8, 12, 2)):
    """Frames with one event at each (time, row, column, polarity)."""
    frames = np.zeros(shape, int)
    np.add.at(frames, tuple(np.transpose(places)), 1)
    return frames


@once
def test_event_frames_are_coloured_by_polarity_and_say_when(drawn, tmp_path):
    frames = dots((0, 1, 2, 0), (0, 1, 3, 1), (2, 7, 11, 1))
    edges = [5_000, 15_000, 25_000, 45_400]
    path = tmp_path / "frames.png"
    figure = drawn(
        figures_events.plot_event_frames(frames, path, edges_us=edges, title="Cup")
    )
    ((first, second, third),) = images_by_row(figure)
    colours = first.get_array()
    np.testing.assert_allclose(colours[1, 2], to_rgb(sheet.BLUE))
    np.testing.assert_allclose(colours[1, 3], to_rgb(sheet.VERMILION))
    assert (colours != 1).any(-1).sum() == 2
    np.testing.assert_array_equal(second.get_array(), np.ones((8, 12, 3)))
    np.testing.assert_allclose(third.get_array()[7, 11], to_rgb(sheet.VERMILION))
    said = texts(figure).split("\n")
    assert said[:2] == ["Cup", "3 events"]
    assert said[-3:] == ["0\u201310 ms", "10\u201320 ms", "20\u201340 ms"]
    assert {"\u25a0 OFF", "\u25a0 ON"} <= set(said)


@once
def test_event_frames_fill_rows_of_eight(drawn, tmp_path):
    frames = dots((0, 0, 0, 0), shape=(11, 8, 12, 2))
    figure = drawn(figures_events.plot_event_frames(frames, tmp_path / "frames.png"))
    assert [len(row) for row in images_by_row(figure)] == [8, 3]
    assert "t = 11" in texts(figure)
    boxes = [axes.get_window_extent() for axes in figure.axes]
    assert len({(round(box.width), round(box.height)) for box in boxes}) == 1
    assert boxes[0].width / boxes[0].height == pytest.approx(12 / 8)


@once
@pytest.mark.parametrize(
    ("edges_us", "label"),
    [
        ([0, 2000, 4000, 6000], "2\u20134 ms"),
        ([0, 500, 1250, 2000], "0.5\u20131.2 ms"),
        ([7, 8, 9, 10], "0.001\u20130.002 ms"),
        ([3, 3, 3, 3], "0\u20130 ms"),
        ([7, 3_000_007, 6_000_007, 12_000_007], "3\u20136 s"),
    ],
)
def test_times_have_the_digits_that_tell_them_apart(
    edges_us, label, monkeypatch, tmp_path
):
    figures = []
    monkeypatch.setattr(
        figures_events, "save", lambda figure, path: figures.append(figure)
    )
    figures_events.plot_event_frames(
        dots((0, 0, 0, 0)), tmp_path / "f.png", edges_us=edges_us
    )
    assert label in texts(figures[0]).split("\n")


@once
@pytest.mark.parametrize(
    "draw", [figures_events.plot_event_frames, figures_events.animate_event_frames]
)
def test_event_frames_of_another_shape_are_refused(draw, tmp_path):
    path = tmp_path / "events.gif"
    for shape in ((8, 12, 2), (3, 8, 12, 3), (0, 8, 12, 2)):
        with pytest.raises(ValueError, match=r"\(time, height, width, 2\).*Received"):
            draw(np.zeros(shape), path)
    with pytest.raises(ValueError, match=r"more than the 3 frames. Received: \(3,\)"):
        draw(np.zeros((3, 8, 12, 2)), path, edges_us=[0, 1, 2])
    assert not path.exists()


@once
def test_an_animation_shows_one_frame_after_the_other(tmp_path):
    image_module = pytest.importorskip("PIL.Image", reason="reads the animation")
    frames = dots((0, 1, 2, 0), (1, 1, 2, 1), (2, 1, 2, 0), (2, 1, 2, 1))
    path = tmp_path / "new" / "events.gif"
    assert (
        figures_events.animate_event_frames(frames, path, frames_per_second=5) == path
    )
    with image_module.open(path) as image:
        assert (image.n_frames, image.info["loop"]) == (3, 0)
        assert image.info["duration"] == 200
        # Where the pixel in row 1 and column 2 lies: 3 inches for 12 columns.
        place = round(120 * (0.1 + 2.5 * 3 / 12)), round(120 * (0.65 + 1.5 * 3 / 12))
        shown = []
        for number in range(3):
            image.seek(number)
            shown.append(np.array(image.convert("RGB").getpixel(place)) / 255)
    np.testing.assert_allclose(shown[0], to_rgb(sheet.BLUE), atol=0.03)
    np.testing.assert_allclose(shown[1], to_rgb(sheet.VERMILION), atol=0.03)
    assert shown[2].max() < 0.1


@once
def test_an_animation_must_be_a_gif_with_a_pace(tmp_path):
    frames = dots((0, 0, 0, 0))
    with pytest.raises(ValueError, match=r"named \.gif\. Received: .*events\.png"):
        figures_events.animate_event_frames(frames, tmp_path / "events.png")
    with pytest.raises(ValueError, match="Received: frames_per_second=0"):
        figures_events.animate_event_frames(
            frames, tmp_path / "e.gif", frames_per_second=0
        )


def new_events(count):
    events = np.zeros(count, [("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "?")])
    events["t"] = 7_000 + 1000 * np.arange(count)
    events["x"], events["y"] = np.arange(count) % 30, np.arange(count) % 20
    events["p"] = np.arange(count) % 3 == 0
    return events


@once
def test_a_cloud_shows_every_event_in_space_and_time(drawn, tmp_path):
    events = new_events(60)
    path = tmp_path / "cloud.png"
    figure = drawn(figures_events.plot_event_cloud(events, path, (20, 30), title="Cup"))
    (axes,) = figure.axes
    for points, colour, on in zip(
        axes.collections, (sheet.BLUE, sheet.VERMILION), (False, True), strict=True
    ):
        time, column, row = (np.asarray(x) for x in points._offsets3d)
        chosen = events[events["p"] == on]
        np.testing.assert_allclose(time, (chosen["t"] - 7_000) / 1000)
        np.testing.assert_array_equal(column, chosen["x"])
        np.testing.assert_array_equal(row, chosen["y"])
        np.testing.assert_allclose(points.get_facecolor()[0, :3], to_rgb(colour))
    assert axes.get_ylim() == (0, 29)
    assert axes.get_zlim() == (19, 0)
    assert texts(figure).split("\n")[:2] == ["Cup", "60 events"]


@once
def test_a_cloud_of_many_events_is_thinned_and_says_so(drawn, tmp_path):
    path = tmp_path / "cloud.png"
    figure = drawn(
        figures_events.plot_event_cloud(new_events(1001), path, (20, 30), most=500)
    )
    shown = sum(len(points._offsets3d[0]) for points in figure.axes[0].collections)
    assert shown == 334
    assert "1,001 events, one in 3 is shown" in texts(figure)


@once
def test_a_cloud_needs_events(tmp_path):
    with pytest.raises(ValueError, match="must have events"):
        figures_events.plot_event_cloud(new_events(0), tmp_path / "cloud.png", (20, 30))
    with pytest.raises(ValueError, match="Received: most=0"):
        figures_events.plot_event_cloud(
            new_events(1), tmp_path / "c.png", (20, 30), most=0
        )


@once
def test_examples_of_events_stand_in_the_row_of_their_class(drawn, tmp_path):
    examples = np.zeros((5, 3, 8, 12, 2), int)
    for number in range(5):  # Most events in frame 1, at a place of its own.
        examples[number, 1, number, number, 1] = 3
        examples[number, 2, 7, 11, 0] = 2
    labels, names = [2, 0, 2, 2, 0], ["ant", "bee", "cat"]
    path = tmp_path / "examples.png"
    figure = drawn(
        images.plot_class_examples(
            examples, labels, names, path, per_class=2, title="Insects"
        )
    )
    rows = images_by_row(figure)
    places = [
        [np.argwhere((image.get_array() != 1).any(-1)).tolist() for image in row]
        for row in rows
    ]
    assert places == [[[[1, 1]], [[4, 4]]], [[[0, 0]], [[2, 2]]]]
    said = {text.get_text(): text.get_position()[1] for text in figure.texts}
    assert said["Insects"] > said["ant"] > said["bee"] > said["cat"]
    assert "frame with the most events" in said


@once
def test_examples_of_images_have_no_key_of_polarity(drawn, tmp_path):
    examples = np.random.default_rng(0).random((20, 8, 8, 1))
    names = list("0123456789")
    path = tmp_path / "examples.png"
    figure = drawn(
        images.plot_class_examples(examples, np.arange(20) % 10, names, path)
    )
    assert [len(row) for row in images_by_row(figure)] == [2] * 10
    assert "OFF" not in texts(figure)


@once
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0, 1]}, r"labels \(examples,\). Received: .* and \(2,\)"),
        ({"labels": [0, 1, 2]}, "labels must be whole numbers from 0 to 1"),
        ({"examples": np.zeros((3, 8, 8))}, r"Received: \(3, 8, 8\)"),
        ({"per_class": 0}, "Received: per_class=0"),
    ],
)
def test_examples_refuse_what_does_not_fit(changes, message, tmp_path):
    arguments = {
        "examples": np.zeros((3, 4, 8, 8, 2)),
        "labels": [0, 1, 0],
        "class_names": ["ant", "bee"],
    }
    with pytest.raises(ValueError, match=message):
        images.plot_class_examples(**{**arguments, **changes}, path=tmp_path / "e.png")


@once
def test_folders_are_made_and_a_suffix_chooses_the_format(tmp_path):
    path = training.plot_training(HISTORY, str(tmp_path / "a" / "b" / "training.svg"))
    assert path == tmp_path / "a" / "b" / "training.svg"
    assert "<svg" in path.read_text()
    with pytest.raises(ValueError, match="'xyz' is not supported"):
        training.plot_training(HISTORY, tmp_path / "training.xyz")


@once
def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "keras_qkformer.analysis.figures")
    monkeypatch.delitem(sys.modules, images.__name__)
    with pytest.raises(ImportError, match=r"pip install 'keras_qkformer\[plots\]'"):
        importlib.import_module(images.__name__)


def test_a_figure_without_a_path_is_returned():
    pictures = np.zeros((2, 4, 4, 1))
    assert isinstance(images.plot_images(pictures, ["a", "b"], None), Figure)


@once
@pytest.mark.parametrize("classes", [2, 60])
def test_names_that_are_no_formula_are_drawn_as_they_are(classes, drawn, tmp_path):
    names = [rf"${number}\no$" for number in range(classes)]
    labels, path = np.arange(classes), tmp_path / "confusion.png"
    drawn(confusion.plot_confusion_matrix(labels, labels[::-1], names, path))
    pictures = np.random.default_rng(0).random((2, 400, 400, 3))
    path = tmp_path / "images.png"
    figure = drawn(images.plot_images(pictures, names[:2], path, title=names[0]))
    assert r"$1\no$" in texts(figure)
