"""Read text tables: .csv, .tsv and .txt."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from sklearn_cells import _blocks
from sklearn_cells.io._common import Refusal, as_float, make_cells, open_maybe_gzipped

_BARCODE = re.compile(r"(^|[-_.:#])[ACGTN]{10,}([-_.]\d+)?$")  # also after a sample name
_ENSEMBL_ID = re.compile(r"^ENS[A-Z]*G\d{6,}")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
# Headings of a column of names; R's read.csv calls a column without a heading X.
_HEADS = r"(|x|unnamed: 0|index|ids?|names?|row[ _.-]?names?|({})s?([ _.-]?(id|name|index|barcode|symbol)s?)?)"
_CELLS = re.compile(_HEADS.format("cell|barcode|obs|observation|sample|spot|nucleus|nuclei|bead"), re.I)
_GENES = re.compile(_HEADS.format("gene|feature|symbol|ensembl|entrez|probe|var|geneid|genename|hgnc|mgi"), re.I)


def read_text(path: Path, transpose: bool = False) -> AnnData:
    separator = "," if path.name.lower().endswith((".csv", ".csv.gz")) else "\t"
    rows: list[str] = []
    blocks = []
    with open_maybe_gzipped(path, "rt", encoding="utf-8-sig") as file:
        header = _header(file.readline(), separator)
        lines = filter(str.strip, file)
        first = next(lines, None)
        if first is None:
            raise Refusal(f"It has a header, but no {'genes' if transpose else 'cells'} below it.")
        n_columns = len(next(csv.reader([first], delimiter=separator)))
        # R's write.table leaves out the heading of the first column.
        head, columns = ("", header) if len(header) == n_columns - 1 else (header[0], header[1:])
        _check_direction(head, columns, "header", transpose)
        for names, values in _parsed(chain([first], lines), separator, columns, transpose):
            _check_direction("", names, "first column", transpose)
            rows.extend(names)
            blocks.append(values)
    _check_names(head, rows, columns, transpose)
    X = sp.vstack(blocks, "csr")
    return make_cells(X.T.tocsr(), columns, rows) if transpose else make_cells(X, rows, columns)


def _header(line: str, separator: str) -> list[str]:
    if not line.strip():
        raise Refusal("It is empty; expected a header that names the genes.")
    if separator not in line:
        raise Refusal(
            f"It has only one column; expected {separator!r} between columns, from the file name, but the header "
            f"begins with {line[:40]!r}."
        )
    return next(csv.reader([line], delimiter=separator))


def _check_direction(head: str, names: Sequence[str], place: str, transpose: bool) -> None:
    """Refuse cell names where gene names are expected, and the reverse."""
    in_header = place == "header"
    pattern = _BARCODE if in_header != transpose else _ENSEMBL_ID
    matches = [name for name in names if pattern.search(name)]
    found = matches[0] if len(matches) > len(names) / 2 else None
    wrong, right = (_CELLS, _GENES) if transpose else (_GENES, _CELLS)
    if found is None and head and wrong.fullmatch(head) and not right.fullmatch(head):
        found = head
    if found is not None and transpose:
        raise Refusal(f"Cells seem to be in rows ({found!r} in the {place}); expected genes: leave out transpose=True.")
    if found is not None:
        raise Refusal(f"Genes seem to be in rows ({found!r} in the {place}); expected cells: pass transpose=True.")


def _parsed(
    lines: Iterator[str], separator: str, columns: list[str], transpose: bool
) -> Iterator[tuple[list[str], sp.csr_matrix]]:
    n_rows = max(1, _blocks.DENSE_VALUES // max(1, len(columns)))
    while block := list(islice(lines, n_rows)):
        yield _parse(block, separator, columns, transpose)


def _parse(lines: list[str], separator: str, columns: list[str], transpose: bool) -> tuple[list[str], sp.csr_matrix]:
    ends = [('"' if line[0] == '"' else "") + separator for line in lines]
    parts = [line.partition(end) for line, end in zip(lines, ends, strict=True)]
    names = [name.removeprefix('"') for name, _, _ in parts]
    texts = [text.rstrip("\n") for _, _, text in parts]
    if all(texts):
        with suppress(ValueError):  # _first_fault says what is wrong
            # takes a third of the time of pandas.read_csv on 20,000 columns
            values = np.loadtxt(texts, delimiter=separator, comments=None, quotechar='"', ndmin=2)
            if values.shape == (len(lines), len(columns)) and np.isfinite(values).all():
                return names, sp.csr_matrix(as_float(values))
    raise Refusal(_first_fault(lines, separator, columns, *(("gene", "cell") if transpose else ("cell", "gene"))))


def _first_fault(lines: list[str], separator: str, columns: list[str], row: str, column: str) -> str:
    for name, *texts in csv.reader(lines, delimiter=separator):
        if len(texts) != len(columns):
            return f"Expected {len(columns)} values for {row} {name!r}, got {len(texts)}; is the file truncated?"
        numbers = pd.to_numeric(pd.Series(texts), errors="coerce")
        for i in np.flatnonzero(~np.isfinite(numbers)):
            return f"Expected a number for {row} {name!r} and {column} {columns[i]!r}, got {texts[i]!r}."
    return "Its values are not plain numbers; expected numbers such as 3 or 0.5."


def _check_names(head: str, rows: list[str], columns: list[str], transpose: bool) -> None:
    """Refuse numbers where names are expected: they may be counts."""
    across, down = ("cells", "genes") if transpose else ("genes", "cells")
    if all(map(_NUMBER.fullmatch, columns)):
        raise Refusal(f"Its header holds numbers, starting with {columns[0]!r}; expected the names of the {across}.")
    names = _GENES if transpose else _CELLS
    if not names.fullmatch(head) and all(map(_NUMBER.fullmatch, rows)):
        raise Refusal(
            f"Its first column has the header {head!r} and holds numbers, starting with {rows[0]!r}: are these "
            f"counts, or the names of the {down}? Put a column of names before the counts, as DataFrame.to_csv does, "
            f"or change the header to {down[:-1]!r} if these are the names."
        )
