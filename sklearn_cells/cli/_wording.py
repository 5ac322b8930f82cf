"""Reword messages of the package for the shell: options instead of parameters, and no Python."""

import re

# The options for the parameters in a message, where their names differ.
NAMES = {"overwrite": "force", "cv": "folds", "n_features_to_select": "n_genes", "random_state": "seed"}
NAMES |= {"species": "gene_species"}

# Sentences that contain more Python than a parameter.
PHRASES = {
    r" In a pipeline, set the layer in the first step only\.": "",
    r"Pass the one that holds counts\.": "Choose the one that holds counts with --layer.",
    r"Pass layer=\.\.\. to choose the counts": "Choose the counts with --layer",
    r"pass one of these, or 'var_names'": "pass one of these, or var_names, with --gene-names",
    r"set duplicates to 'sum', 'first' or 'error' to choose": "choose with --duplicates sum, first or error",
    r"Gene names must be unique, but (.*) occurs more than once: .*": (
        r"Gene names must be unique, but \1 occurs more than once. Pass --duplicates sum or first."
    ),
    r"fit a model on the shared genes: genes = shared_genes\(.*?\); model\.fit\(.*?\)\.": (
        "train a model on the shared genes: sklearn-cells train REFERENCE --shared-with QUERY."
    ),
    r"set require_counts=False in GeneAligner \(.*?\)\.": "round them first.",
    r"pass cells\.T": "pass --transpose",
    r"Convert them: .*?, (species='\w+')\) \(from .*?\) finds": r"Set \1, which finds",
    r": set the others to None\.": ": leave out the others.",
    r"pass a smaller cv\b": "pass a smaller --folds",
    r"such as RejectOptionClassifier, or no threshold\.": "such as one from sklearn-cells train, or no --threshold.",
    r"(?:pass a model of make_cell_pipeline, .*? GeneAligner|wrap it in RejectOptionClassifier, .*?),": (
        "pass a model from sklearn-cells train,"
    ),
    r"Lower learning_rate, .*": "Check that the cells hold raw counts.",
    r"Remove those cells: adata.*?\]\)\]\.": "Remove those cells from the file.",
    r", for (?:read_cells|KerasCellClassifier\.from_keras)": "",
    r"(it seems to be (?:HDF5|another zip archive).*)": r"\1 Pass a model from sklearn-cells train.",
    r", or call joblib\.dump\.": ".",
    r"Rename the column, or pass cells\.obs\['auto'\] to use it\.": "Rename the column in the file.",
    r"model file of sklearn_cells: expected a file written by save_model\.": (
        "model file of sklearn_cells. Pass a model from sklearn-cells train."
    ),
    r"it seems to be .*(?:joblib|pickle).*": "it seems to be a pickle. Pass a model from sklearn-cells train.",
    r"Read it with load_model\.": "Pass it with -m.",
    r"^y has 1 class": "The labels have 1 class",
    r"None of the types in y": "None of the types in --labels",
    r"Rename the types in y to match\.": "Translate the types with --map.",
    r"The number of unique classes is greater than 50% of.*": (
        "More than half of the labels are unique; expected types that many cells share."
    ),
    r"Pass a smaller number, or a fraction, to select genes\.": "Pass a smaller n_genes.",
}

_PARAMETER = re.compile(r"(?<![\w/])(?:[Ss]et )?(?:\w+__)?(\w+)=('[^']*'|\"[^\"]*\"|[\w.]+\w|\w)")
# Alternatives that are only possible in Python.
_CHOICE = re.compile(r",? or (?:set|pass) \w+=\S*\w['\"]?(?: to confirm)?")
# Remaining code: assigned parameters, calls of methods or with parameters, AnnData by its usual name.
_PYTHON = re.compile(r"\b[a-z]\w*=['\"\w\[(]|\w\.[a-z_]+\(|\w\(\w+=|\badata\b|\bmodel\.|\.obs\[")


def in_shell(message, options, given=()):
    """Reword a message for the shell.

    Parameters
    ----------
    message : str
        The message for Python, such as "set layer='counts'".

    options : dict of str
        The options of the command by name, such as {"layer": "--layer"}.

    given : iterable of str, default=()
        The names of the flags that were passed. If a message asks to pass one of them, it asks to leave it out instead.

    Returns
    -------
    message : str
        The message for the shell, such as "pass --layer counts". Sentences after the first that contain Python code
        are left out.
    """
    for python, shell in PHRASES.items():
        message = re.sub(python, shell, message)
    message = _PARAMETER.sub(lambda found: _option(found, options), message)
    for name, option in options.items():
        if "_" in name:  # other names may be words; not in quotes or file names
            message = re.sub(rf"(?<![\w'\"/.-]){name}(?![\w'\"/-]|\.\w)", option, message)
    message = _CHOICE.sub("", message)
    for name in given:
        message = message.replace(f"pass {options[name]}", f"leave out {options[name]}")
    first, *others = re.split(r"(?<=[.;]) (?=[A-Z-])", message)
    return " ".join([first, *(sentence for sentence in others if not _PYTHON.search(sentence))])


def _option(found, options):
    option = options.get(NAMES.get(found[1], found[1]))
    if option is None:
        return found[0]
    value = found[2].strip("'\"")
    verb = "pass " if found[0].startswith("set ") else "Pass " if found[0].startswith("Set ") else ""
    return f"{verb}{option}" if value == "True" else f"{verb}{option} {value}"
