"""Frames onto the pictures of a page: the current time step, and all side by side."""

from keras_qkformer.analysis.report.markup import tag

_SIDE_BY_SIDE = 8  # Time steps in a row; more would be too small on a phone.


class Sheets:
    """The pictures of the page, each of which frames refer to by its name."""

    def __init__(self):
        self.images = []

    def add(self, uri, width, height):
        """Add a sheet of that size in units of its frames, and return its name."""
        name = f"sheet{len(self.images)}"
        self.images.append(
            tag(
                "image",
                id=name,
                href=uri,
                width=width,
                height=height,
                preserveAspectRatio="none",
                class_="pixels",
            )
        )
        return name

    def markup(self):
        """All sheets, in an element that takes no room."""
        return tag(
            "svg",
            tag("defs", self.images),
            class_="sheets",
            aria_hidden="true",
            width=0,
        )


class Picture:
    """The input of an example, on which veils are laid.

    Args:
        sheet: str. Name of its sheet.
        width: int. In pixels, as are all units of its frames.
        height: int.
        moves: bool. Whether the sheet has a column for each step.
        is_photo: bool. Whether its colours would hide those of a veil.
        steps: int. Number of time steps.
    """

    def __init__(self, sheet, width, height, moves, is_photo, steps):
        self.sheet = sheet
        self.width = width
        self.height = height
        self.moves = moves
        self.is_photo = is_photo
        self.steps = steps

    def frame(self, title, *above):
        """A frame of the current time step, with what lies above the input."""
        return tag(
            "svg",
            tag("title", title),
            self._under(cell="x" if self.moves else "", veiled=bool(above)),
            *above,
            viewBox=f"0 0 {self.width} {self.height}",
            class_="frame",
            role="img",
            aria_label=title,
        )

    def strips(self, title, veil):
        """All time steps, some in a row, with a mark on the current one.

        Args:
            title: str.
            veil: function from a position to the veil that starts there.
        """
        rows = []
        for first in range(0, self.steps, _SIDE_BY_SIDE):
            count = min(_SIDE_BY_SIDE, self.steps - first)
            start = -first * self.width
            under = [start] if self.moves else [i * self.width for i in range(count)]
            gaps = [
                tag("line", class_="gap", x1=x, x2=x, y1=0, y2=self.height)
                for x in (i * self.width for i in range(1, count))
            ]
            mark = tag(
                "rect",
                class_="now",
                width=self.width,
                height=self.height,
                data_cell="mark",
                data_width=self.width,
                data_first=first,
            )
            label = f"{title}: time steps {first + 1} to {first + count}"
            rows.append(
                tag(
                    "svg",
                    tag("title", label),
                    [self._under(x=x) for x in under],
                    veil(start),
                    gaps,
                    mark,
                    # As wide as a full row, so that all steps have one size.
                    viewBox=f"0 0 {min(_SIDE_BY_SIDE, self.steps) * self.width} "
                    f"{self.height}",
                    class_="strip",
                    role="img",
                    aria_label=label,
                    data_first=first,
                    data_columns=min(_SIDE_BY_SIDE, self.steps),
                )
            )
        return tag("div", rows, class_="strips")

    def _under(self, x=0, cell="", veiled=True):
        return tag(
            "use",
            href=f"#{self.sheet}",
            x=x,
            class_="under pale" if veiled and self.is_photo else "under",
            data_cell=cell or None,
            data_width=self.width if cell else None,
        )
