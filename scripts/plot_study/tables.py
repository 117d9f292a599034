"""The tables that `latticed-train study` writes, read and checked."""

import json
import math
import os

import numpy as np


class Problem(Exception):
    """What is wrong, why, and what to try."""


class Table:
    """Rows of cells by column; a cell that is not there is empty."""

    def __init__(self, path, name, about, columns, rows):
        self.path, self.name, self.about = path, name, about
        self.columns, self.rows = columns, rows

    def __len__(self):
        return len(self.rows)

    def where(self, **cells):
        """The rows with these cells; an empty text is as good as none."""
        return self._chosen(cells, True)

    def without(self, **cells):
        """The other rows."""
        return self._chosen(cells, False)

    def _chosen(self, cells, chosen):
        for column in cells:
            self._check(column)
        return Table(self.path, self.name, self.about, self.columns, [
            row for row in self.rows
            if all(row.get(column, "") == cell
                   for column, cell in cells.items()) == chosen])

    def _check(self, column):
        if column not in self.columns:
            raise Problem(f"{self.path} has no column {column}: another "
                          "version wrote it; run the study again")

    def _cells(self, column, kind):
        self._check(column)
        cells = [row.get(column) for row in self.rows]
        for cell in cells:
            if cell is not None and isinstance(cell, str) != (kind is str):
                raise Problem(f"{self.path} is damaged: {cell!r} in column "
                              f"{column}; run the study again")
        return cells

    def __getitem__(self, column):
        """Numbers, NaN for empty cells."""
        return np.array([math.nan if cell is None else cell
                         for cell in self._cells(column, float)], float)

    def numbers(self, column):
        """The different numbers, in order of size."""
        return sorted(set(self[column][np.isfinite(self[column])]))

    def texts(self, column):
        """The different texts, in order of appearance."""
        return list(dict.fromkeys(
            cell for cell in self._cells(column, str) if cell is not None))

    def text(self, column):
        """The text in the only row; empty without one."""
        return "".join(self.texts(column))

    def value(self, column):
        """The number in the only row; NaN without one."""
        return self[column][0] if len(self) == 1 else math.nan

    def add(self, column, about, values):
        """A column computed from the others."""
        self.columns[column] = about
        for row, value in zip(self.rows, values):
            if math.isfinite(value):
                row[column] = float(value)


def read_table(directory, name):
    path = os.path.join(directory, name + ".json")
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        columns = {column["name"]: column["about"]
                   for column in content["columns"]}
        rows = [dict(row) for row in content["rows"]]
        if not all(isinstance(cell, (int, float, str))
                   for row in rows for cell in row.values()):
            raise ValueError("a cell is neither number nor text")
        return Table(path, name, content["about"], columns, rows)
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}; the end of a "
                      "study writes it, run the study again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Problem(f"{path} is damaged: {error}; run the study again"
                      ) from error


class Study:
    """The folder OUT/NAME of a study."""

    def __init__(self, directory):
        if not os.path.exists(os.path.join(directory, "study.json")):
            raise Problem(
                f"{directory} has no study.json: it is not the folder of a "
                "study, or the study has not ended; try OUT/NAME after "
                "`latticed-train study NAME --output OUT`")
        self.directory = directory
        self.about = read_table(directory, "study")
        self.name = self.about.text("study")

    def table(self, name):
        return read_table(self.directory, name)
