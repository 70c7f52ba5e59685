"""The picture of the house: which part imports which, read from the code."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "keras_qkformer"
CELL, LEFT, TOP = 17, 112, 112


def allowed():
    """Return what each part may import: dict to sets, from the test of these rules."""
    tree = ast.parse((ROOT / "tests" / "test_architecture.py").read_text())
    values = {"set": set}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            name = ast.unparse(node.targets[0])
            if name in ("ANYTHING", "ALLOWED"):
                code = compile(ast.Expression(node.value), "rules", "eval")
                values[name] = eval(code, values)
    rules = values["ALLOWED"].items()
    return {part: others for part, others in rules if not part.startswith("_")}


def imported():
    """Return what each part imports: dict from names to sets."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            module = getattr(node, "module", None) or ""
            names = [module] if module.startswith("keras_qkformer.") else []
            if module == "keras_qkformer":
                names = [f"keras_qkformer.{alias.name}" for alias in node.names]
            found.setdefault(part, set()).update(n.split(".")[1] for n in names)
    return {part: names - {part} for part, names in found.items()}


def house():
    """Return the picture as SVG: a row imports the columns with a full dot."""
    rules, real = allowed(), imported()
    rank = {}

    def depth(part):
        if part not in rank:
            below = real.get(part, set()) & set(rules)
            rank[part] = 1 + max(map(depth, below), default=0)
        return rank[part]

    parts = sorted(rules, key=lambda part: (-depth(part), part))
    size = LEFT + CELL * len(parts) + 6, TOP + CELL * len(parts) + 6
    marks = []
    for i, part in enumerate(parts):
        x, y = LEFT + CELL * (i + 0.5), TOP + CELL * (i + 0.5)
        marks.append(
            f'<rect class="self" x="{x - CELL / 2:g}" y="{y - CELL / 2:g}" '
            f'width="{CELL}" height="{CELL}"/>'
            f'<text class="row" x="{LEFT - 6}" y="{y + 4:g}">{part}</text>'
            f'<text class="column" transform="translate({x + 4:g} {TOP - 6}) '
            f'rotate(-90)">{part}</text>'
        )
        for j, other in enumerate(parts):
            kind = "uses" if other in real.get(part, ()) else "may"
            if other in rules[part] | real.get(part, set()):
                marks.append(
                    f'<circle class="{kind}" cx="{LEFT + CELL * (j + 0.5):g}" '
                    f'cy="{y:g}" r="{5.5 if kind == "uses" else 2.5}"/>'
                )
    return (
        f'<svg class="house" viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" '
        'role="img" aria-label="Which part of the package imports which">'
        + "".join(marks)
        + "</svg>"
    )
