"""How many values are in memory at one time: the block sizes of the package."""

# Values of a block of cells that is read, selected or predicted at one time, zeros included: 128 MB if it were dense
# float32, less where it is sparse.
READ_VALUES = 2**25

# Values of a block that is dense: 16 MB of float32.
DENSE_VALUES = 2**22


def row_slices(n_rows: int, n_columns: float, values: int | None = None) -> list[slice]:
    """Return the slices that cut rows into blocks of at most `values` values, `READ_VALUES` by default."""
    size = n_rows_at_once(n_columns, values)
    return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]


def n_rows_at_once(n_columns: float, values: int | None = None) -> int:
    """Return the rows of a block of at most `values` values, `READ_VALUES` by default, and at least one."""
    return max(1, int((values or READ_VALUES) // max(1, n_columns)))
