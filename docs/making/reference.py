"""The pages of the reference: every public name once, from its docstring."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "keras_qkformer"
# Page -> (title, what it is about, modules).
SECTIONS = {
    "models": (
        "Models",
        "Families, classifiers, presets and streaming.",
        ["models"],
    ),
    "layers": ("Layers", "Keras layers, from neurons to blocks.", ["layers"]),
    "ops": ("Operations", "Pure functions: spikes, surrogates, neurons.", ["ops"]),
    "trained": (
        "Trained models",
        "A model with its class names and its preprocessing.",
        ["trained", "predict", "predict_live", "backend"],
    ),
    "training": (
        "Training",
        "Recipes, the one function that trains, and what it is made of.",
        [
            *("training.recipe", "training.fit", "training.evaluate"),
            *("training.losses", "training.schedules", "training.optimizer"),
        ],
    ),
    "data": (
        "Data",
        "Images and recordings, from files to batches.",
        ["data.settings", "data.source", "data.examples", "data.preprocessing"],
    ),
    "events": ("Events", "Recordings of event cameras; NumPy alone.", ["events"]),
    "analysis": (
        "Analysis",
        "Firing rates, operations, energy and attention.",
        [
            *("analysis.analyze", "analysis.attention", "analysis.activity"),
            *("analysis.energy", "analysis.firing_rate", "analysis.operations"),
        ],
    ),
    "figures": (
        "Figures",
        "Pictures of spikes, events and training.",
        [
            *("analysis.colours", "analysis.figures.spikes"),
            *("analysis.figures.events", "analysis.figures.images"),
            *("analysis.figures.confusion", "analysis.figures.training"),
        ],
    ),
    "serving": (
        "Serving",
        "Exports, their checks, and a client.",
        ["serving.export", "serving.check", "serving.client"],
    ),
    "convert": (
        "Converting",
        "Checkpoints of the authors and files of NIR, and back.",
        ["convert"],
    ),
    "hubs": (
        "Hubs",
        "Presets on Hugging Face and Kaggle, and their model cards.",
        ["presets.upload", "presets.card"],
    ),
}


def public_names(module):
    """Return the public names of a module, in order: `__all__`, or what it defines.

    Names that it only passes on from another module of the reference are left out.

    Args:
        module: str. Dotted name within the package.
    """
    path = PACKAGE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    body = ast.parse(path.read_text()).body
    others = {f"keras_qkformer.{m}" for _, _, found in SECTIONS.values() for m in found}
    passed_on = {
        alias.name
        for node in body
        if isinstance(node, ast.ImportFrom) and node.module in others
        for alias in node.names
    }
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [n for n in ast.literal_eval(node.value) if n not in passed_on]
    defined = [n for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    return [n.name for n in defined if not n.name.startswith("_")]


def entries():
    """Return the dotted names of each page of the reference: dict to lists."""
    return {
        page: [
            f"keras_qkformer.{module}.{name}"
            for module in modules
            for name in public_names(module)
        ]
        for page, (_, _, modules) in SECTIONS.items()
    }


def reference_pages():
    """Return the pages: dict from path to Markdown."""
    index = [
        "# Reference",
        "Every public name, from its docstring. What a name takes and returns is "
        "written with shapes: `(batch, time, height, width, channels)` everywhere but "
        "in `convert`.",
    ]
    pages = {}
    for page, names in entries().items():
        title, about, modules = SECTIONS[page]
        index += [f"## [{title}]({page}.md)", about, listed(names)]
        text = [f"# {title}", about]
        for module in modules:
            if len(modules) > 1:
                text.append(f"## `keras_qkformer.{module}` {{ .module }}")
            level = 3 if len(modules) > 1 else 2
            for name in public_names(module):
                text.append(
                    f"::: keras_qkformer.{module}.{name}\n"
                    f"    options:\n      heading_level: {level}"
                )
        pages[f"reference/{page}.md"] = "\n\n".join(text) + "\n"
    return {"reference/index.md": "\n\n".join(index) + "\n", **pages}


def listed(names):
    """Return links to names, as one paragraph."""
    links = (f"[`{name.rsplit('.', 1)[1]}`][{name}]" for name in names)
    return " · ".join(links) + "\n{ .names }"
