"""Block sizes of the package: how many values are in memory at a time."""

# Values, zeros included, in a block of cells that is read, selected or predicted at a time: 128 MB as dense float32,
# less if sparse.
READ_VALUES = 2**25

# Values in a dense block: 16 MB of float32.
DENSE_VALUES = 2**22


def row_slices(n_rows: int, n_columns: float, values: int | None = None) -> list[slice]:
    """Return the slices that cut rows into blocks of at most `values` values, `READ_VALUES` by default."""
    size = n_rows_at_once(n_columns, values)
    return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]


def n_rows_at_once(n_columns: float, values: int | None = None) -> int:
    """Return the number of rows, at least one, in a block of at most `values` values, `READ_VALUES` by default."""
    return max(1, int((values or READ_VALUES) // max(1, n_columns)))
