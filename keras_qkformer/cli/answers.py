"""Answers of `predict` as text, JSON or CSV, one after the other."""

import csv
import io
import json
import sys

from keras_qkformer.printable import printable


class Answers:
    """Writes each answer to standard output as soon as it is there.

    As text: a line with what was asked, a tab, and `class:probability` for each class.
    As JSON: one object per line, with the list `classes`. As CSV: one line per class.

    Args:
        form: `"text"`, `"json"` or `"csv"`.
        subject: str. Name of what is asked in JSON and CSV, such as `"file"`.
        top: int > 0. Largest number of classes in an answer.
        write: function `write(line)` that prints a line, or `None` for `print`.
    """

    def __init__(self, form, subject, top, write=None):
        self.form, self.subject, self.top = form, subject, top
        self._write = write or (lambda line: print(line, flush=True))
        if form == "csv":
            self._row(subject, "rank", "class", "probability")

    def add(self, asked, names, probabilities, note="", **more):
        """Write one answer.

        Args:
            asked: str or number, the value of the subject.
            names: list of str. Class names, the most probable first.
            probabilities: list of float, in the same order.
            note: str. Ends the line of text.
            **more: values to add to JSON, by their names.
        """
        pairs = list(zip(names, map(float, probabilities), strict=False))[: self.top]
        if self.form == "json":
            classes = [{"class": name, "probability": p} for name, p in pairs]
            self._write(json.dumps({self.subject: asked, "classes": classes, **more}))
        elif self.form == "csv":
            for rank, (name, p) in enumerate(pairs, 1):
                self._row(asked, rank, name, p)
        else:
            told = [f"{printable(name)}:{p:.4f}" for name, p in pairs]
            cells = [printable(str(asked), 4096), *told, note]
            self._write("\t".join(cells).rstrip("\t"))

    def end(self, told, **values):
        """Write what is to be said after the last answer.

        Args:
            told: str. A sentence: it ends text; CSV has no room for it, so standard
                error gets it.
            **values: the same for JSON, by their names, as an object `summary`.
        """
        if self.form == "json":
            self._write(json.dumps({"summary": values}))
        elif self.form == "csv":
            print(told, file=sys.stderr)
        else:
            self._write(told)

    def _row(self, *values):
        line = io.StringIO()
        cells = (printable(v, 4096) if isinstance(v, str) else v for v in values)
        csv.writer(line, lineterminator="").writerow(cells)
        self._write(line.getvalue())


def ranked_classes(names, probabilities):
    """Return class names and probabilities, the most probable first.

    Args:
        names: list of str.
        probabilities: array `(classes,)`, or `None` without an answer.

    Returns:
        `(names, probabilities)`, both empty without an answer.
    """
    if probabilities is None:
        return [], []
    order = probabilities.argsort()[::-1]
    return [names[i] for i in order], probabilities[order]
