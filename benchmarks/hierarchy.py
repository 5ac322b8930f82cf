"""Measure names in a tree of types: how right and how deep they are, the promised error, and labels of several depths.

    python benchmarks/hierarchy.py naming FOLDER --output assets/hierarchy_naming.csv
    python benchmarks/hierarchy.py rules FOLDER --output assets/hierarchy_rules.csv
    python benchmarks/hierarchy.py promise FOLDER --output assets/hierarchy_promise.csv
    python benchmarks/hierarchy.py laboratories FOLDER --output assets/hierarchy_laboratories.csv
    python benchmarks/hierarchy.py levels FOLDER --output assets/hierarchy_levels.csv
    python benchmarks/hierarchy.py grow FOLDER

FOLDER holds .h5ad files with raw counts in X and labels in obs["cell_type"]: zheng_sorted,
zheng_sorted_second_sample, pbmc3k, pbmc_10x_3chem_symphony (labels in "cell_type_common", chemistries in "batch"),
allen_m1_10x_140genes (8 > 30 > 127 types, two donors in "batch"), and baron_pancreas, panc8_500_bbknnr and
sc_mixology_5cl_celseq2 with donors, technologies and plates in "batch".

"naming" trains on zheng_sorted and annotates the cells of the other files, with the tree and with the flat reject
option, both at the same target errors. "rules" compares ways to choose the depth of a name, each with one number that
is set on the same held-out cells: one threshold for all depths, one for each depth, and sets of leaves that are cut to
their lowest common ancestor. "promise" splits the cells of a data set at random, trains a logistic regression with a
reject option on one half, and counts how often more than 5 % of the assigned cells of the other half are wrong.
"laboratories" leaves out each batch of a data set in turn, trains on samples of the others, with and without `groups`,
and counts the same.
"levels" trains on one donor and scores the other at each level, with and without the tree; then half of the fine labels
are replaced by their parents. "grow" trains on nine types, then adds the tenth.
"""

import resource
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import anndata as ad
import click
import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC
from transfer import lognorm

from sklearn_cells import JSDivergenceSelector, RejectOptionClassifier, make_cell_pipeline
from sklearn_cells.hierarchy import CellTypeTree, NamesInTree
from sklearn_cells.metrics import hierarchical_accuracy

TARGETS = (0.02, 0.05, 0.1)
# The sorted populations, and terms of the Cell Ontology for them.
BLOOD = CellTypeTree.from_dict(
    {
        "lymphocyte": {
            "T cell": {
                "CD4+ T cell": dict.fromkeys(
                    ["CD4+ T Helper2", "CD4+/CD25 T Reg", "CD4+/CD45RA+/CD25- Naive T", "CD4+/CD45RO+ Memory"]
                ),
                "CD8+ T cell": dict.fromkeys(["CD8+ Cytotoxic T", "CD8+/CD45RA+ Naive Cytotoxic"]),
            },
            "CD19+ B": None,
            "CD56+ NK": None,
        },
        "CD14+ Monocyte": None,
        "CD34+": None,
    },
    identifiers={
        "lymphocyte": "CL:0000542",
        "T cell": "CL:0000084",
        "CD4+ T cell": "CL:0000624",
        "CD4+ T Helper2": "CL:0000492",
        "CD4+/CD25 T Reg": "CL:0000792",
        "CD4+/CD45RA+/CD25- Naive T": "CL:0000895",
        "CD4+/CD45RO+ Memory": "CL:0000897",
        "CD8+ T cell": "CL:0000625",
        "CD8+ Cytotoxic T": "CL:0000794",
        "CD8+/CD45RA+ Naive Cytotoxic": "CL:0000900",
        "CD19+ B": "CL:0000236",
        "CD56+ NK": "CL:0000623",
        "CD14+ Monocyte": "CL:0001054",
        "CD34+": "CL:0008001",
    },
)
# The labels of other sets, as types of the tree.
AS_SORTED = {
    "CD4 T": "CD4+ T cell", "CD8 T": "CD8+ T cell", "B": "CD19+ B", "NK": "CD56+ NK",
    "CD14 Monocytes": "CD14+ Monocyte", "FCGR3A Monocytes": "CD14+ Monocyte", "CD14 Mono": "CD14+ Monocyte",
    "CD16 Mono": "CD14+ Monocyte", "Monocyte": "CD14+ Monocyte",
}  # fmt: skip


@click.group(help=__doc__.splitlines()[0])
def main():
    warnings.simplefilter("ignore")


folder_argument = click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
output_option = click.option("--output", type=click.Path(path_type=Path), help="Keep the table as CSV.")


def finish(rows, output):
    table = pd.DataFrame(rows)
    print(table.round(4).to_string(index=False))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(output, index=False, float_format="%.4f")


def read(folder, name, column="cell_type"):
    cells = ad.read_h5ad(folder / f"{name}.h5ad")
    return cells, cells.obs[column].astype(str).to_numpy()


def queries(folder):
    """Yield the name, the cells and the true types of each query, of types that the tree has."""
    yield "second sample", *read(folder, "zheng_sorted_second_sample")
    cells, labels = read(folder, "pbmc3k")
    chemistries, common = read(folder, "pbmc_10x_3chem_symphony", "cell_type_common")
    batches = chemistries.obs["batch"].astype(str).to_numpy()
    parts = [("pbmc3k", cells, labels)]
    for batch in np.unique(batches):
        parts.append((f"PBMC {batch}", chemistries[batches == batch], common[batches == batch]))
    for name, part, of_part in parts:
        truth = pd.Series(of_part).map(AS_SORTED)
        yield name, part[truth.notna().to_numpy()].copy(), truth.dropna().to_numpy()


def judge(truth, names):
    """Return how right and how deep names are. A flat name below a coarse truth counts as right."""
    given = np.isin(names, BLOOD.names)
    depths = np.array([BLOOD.depth(name) if name in BLOOD else 0 for name in names])
    return {
        "right": hierarchical_accuracy(truth, names, hierarchy=BLOOD),
        "unassigned": np.mean(~given),
        "error of named": 1 - hierarchical_accuracy(truth[given], names[given], hierarchy=BLOOD),
        "depth": depths.mean(),
    }


@main.command()
@folder_argument
@output_option
def naming(folder, output):
    """Name the cells of other sets by zheng_sorted, with the tree and without."""
    cells, labels = read(folder, "zheng_sorted")
    rows = []
    for target in TARGETS:
        for tree in (None, BLOOD):
            pipeline = make_cell_pipeline(hierarchy=tree, classify__random_state=0)
            model = RejectOptionClassifier(pipeline, hierarchy=tree, target_error=target, random_state=0)
            model.fit(cells, labels)
            for name, query, truth in queries(folder):
                key = {"query": name, "cells": len(truth), "target": target, "names": "tree" if tree else "flat"}
                rows.append(key | {"threshold": model.threshold_} | judge(truth, model.predict(query)))
    finish(rows, output)


class Rule:
    """A way to choose how deep a cell is named, by one number: a greater one gives deeper names."""

    def __init__(self, kind, tree, classes):
        self.kind = kind
        self.names = NamesInTree(tree, np.asarray(classes, dtype=object))
        self.of_leaves = tree.reachability(list(classes)).astype(int)
        self.depth = np.array([tree.depth(name) for name in tree.names])

    def fit(self, probabilities, truth, target):
        """Take the greatest number at which at most a share of the names given to these cells are wrong."""
        codes = self.names.index(np.asarray(truth, dtype=object))
        best = None
        for number in np.linspace(0, 1, 201)[1:]:
            if self.kind == "a threshold for each depth":
                self._learn_levels(probabilities, codes, number)
            self.number = number
            given = self.predict(probabilities)
            wrong = ~self.names.right[given, codes] & (given >= 0)
            if wrong.sum() <= target * max(1, (given >= 0).sum()):
                best = number, getattr(self, "levels", None)
        self.number, self.levels = best or (0.0, getattr(self, "levels", None))
        return self

    def _learn_levels(self, probabilities, codes, error):
        paths = self.names.paths(probabilities)
        right = self.names.right[paths.names, codes[:, np.newaxis]]
        self.levels = np.full(paths.names.shape[1], np.inf)
        for depth in range(len(self.levels)):
            known = paths.names[:, depth] >= 0
            order = np.argsort(-paths.probabilities[known, depth])
            risk = np.cumsum(~right[known, depth][order]) / np.arange(1, known.sum() + 1)
            kept = np.flatnonzero(risk <= error)
            if len(kept):
                self.levels[depth] = paths.probabilities[known, depth][order][kept[-1]]

    def predict(self, probabilities):
        """Return the index of the name of each cell, -1 where it is unassigned."""
        if self.kind == "one threshold":
            return self.names.paths(probabilities).ends(1 - self.number)[0]
        if self.kind == "a threshold for each depth":
            paths = self.names.paths(probabilities)
            depths = np.logical_and.accumulate(paths.probabilities >= self.levels, axis=1).sum(axis=1)
            rows = np.arange(len(depths))
            return np.where(depths > 0, paths.names[rows, np.maximum(depths - 1, 0)], -1)
        if self.kind == "leaves above a probability":
            members = probabilities >= min(self.number, 1) * 0.5
        else:  # the most probable leaves that have a probability together
            order = np.argsort(-probabilities, axis=1)
            before = np.cumsum(np.take_along_axis(probabilities, order, 1), axis=1)
            before -= np.take_along_axis(probabilities, order, 1)
            members = np.zeros(probabilities.shape, dtype=bool)
            np.put_along_axis(members, order, before < 1 - self.number, axis=1)
        members[np.arange(len(members)), probabilities.argmax(axis=1)] = True
        holds_all = (members.astype(int) @ self.of_leaves.T) == members.sum(axis=1, keepdims=True)
        deepest = np.where(holds_all, self.depth, 0)
        return np.where(deepest.max(axis=1) > 0, deepest.argmax(axis=1), -1)


RULES = (
    "one threshold",
    "a threshold for each depth",
    "leaves above a probability",
    "leaves with a probability together",
)


@main.command()
@folder_argument
@output_option
def rules(folder, output):
    """Compare rules for the depth of names, at the same error among the same held-out cells."""
    rows = []
    for seed in range(5):
        for name, tree, model, train, held_out, tests in calibrated_models(folder, seed):
            model.fit(*train)
            seen = model.predict_proba(held_out[0])
            for kind in RULES:
                for target in TARGETS:
                    rule = Rule(kind, tree, model.classes_).fit(seen, held_out[1], target)
                    for query, X, truth in tests:
                        given = rule.predict(model.predict_proba(X))
                        right = rule.names.right[given, rule.names.index(truth.astype(object))] & (given >= 0)
                        key = {"reference": name, "query": query, "target": target, "rule": kind}
                        rows.append(key | {"right": right.mean(), "unassigned": np.mean(given < 0)})
                        rows[-1]["error of named"] = 1 - right.sum() / max(1, (given >= 0).sum())
                        rows[-1]["depth"] = np.where(given >= 0, rule.depth[given], 0).mean()
                        rows[-1]["depth of right names"] = np.where(right, rule.depth[given], 0).mean()
    table = pd.DataFrame(rows)
    finish(table.groupby(["reference", "query", "target", "rule"], sort=False).mean().reset_index(), output)


def calibrated_models(folder, seed):
    """Yield a reference, its tree, a model, cells to train on and to choose the number by, and queries."""
    cells, labels = read(folder, "zheng_sorted")
    train, held_out, test = thirds(labels, seed)
    selector = JSDivergenceSelector(2000, hierarchy=BLOOD).fit(cells[train].copy(), labels[train])
    genes = cells.var_names[selector.get_support()]
    X = lognorm(cells[:, genes].X)
    tests = [("same experiment", X[test], labels[test])]
    for name, query, truth in queries(folder):
        places = query.var_names.get_indexer(genes)
        of_query = sp.hstack([lognorm(query.X), sp.csr_array((query.n_obs, 1))]).tocsc()[:, places].tocsr()
        tests.append((name, of_query, truth))
    yield (
        "zheng_sorted", BLOOD, LogisticRegression(C=0.03, max_iter=300),
        (X[train], labels[train]), (X[held_out], labels[held_out]), tests,
    )  # fmt: skip
    cells, fine = read(folder, "allen_m1_10x_140genes", "cell_type_fine")
    donors = cells.obs["batch"].astype(str).to_numpy()
    rng = np.random.default_rng(seed)
    of_first = rng.permutation(np.flatnonzero(donors == np.unique(donors)[0]))[:15_000]
    of_first = of_first[pd.Series(fine[of_first]).groupby(fine[of_first]).transform("size").to_numpy() >= 6]
    of_other = rng.permutation(np.flatnonzero((donors != np.unique(donors)[0]) & np.isin(fine, fine[of_first])))[:5000]
    tree = CellTypeTree.from_obs(cells[of_first], ["cell_type", "cell_type_mid", "cell_type_fine"])
    train, held_out, test = (of_first[part] for part in thirds(fine[of_first], seed))
    X = lognorm(cells.X)
    yield (
        "allen_m1, 127 types", tree, LogisticRegression(C=1.0, max_iter=100),
        (X[train], fine[train]), (X[held_out], fine[held_out]),
        [("same donor", X[test], fine[test]), ("other donor", X[of_other], fine[of_other])],
    )  # fmt: skip


def thirds(labels, seed):
    """Return half of the cells, and two quarters, of each type."""
    train, rest = train_test_split(np.arange(len(labels)), test_size=0.5, stratify=labels, random_state=seed)
    return train, *train_test_split(rest, test_size=0.5, stratify=labels[rest], random_state=seed)


@main.command()
@folder_argument
@output_option
@click.option("--samples", default=20, show_default=True)
def laboratories(folder, output, samples):
    """Count how often the error in a batch that is left out is above the target, with the others as groups."""
    rows = []
    sets = {
        "pbmc_10x_3chem_symphony": "cell_type_common", "panc8_500_bbknnr": "cell_type",
        "sc_mixology_5cl_celseq2": "cell_type",
    }  # fmt: skip
    for name, column in sets.items():
        cells, labels = read(folder, name, column)
        batches = cells.obs["batch"].astype(str).to_numpy()
        X = lognorm(cells.X)
        labels[pd.Series(labels).groupby(labels).transform("size").to_numpy() < 20] = "rare"
        found = {}
        for left_out in np.unique(batches):
            rest = np.flatnonzero((batches != left_out) & (labels != "rare"))
            test = np.flatnonzero((batches == left_out) & np.isin(labels, labels[rest]))
            for seed in range(samples):
                train = np.random.default_rng(seed).permutation(rest)[: int(0.8 * len(rest))]
                for level in (None, 0.9):
                    for kind, groups in (("batches held out", {"groups": batches[train]}), ("cells held out", {})):
                        n_groups = len(np.unique(batches[train])) if groups else 5
                        model = RejectOptionClassifier(
                            LogisticRegression(C=0.3, max_iter=300), target_error=0.05, confidence_level=level,
                            cv=n_groups, random_state=seed,
                        ).fit(X[train], labels[train], **groups)  # fmt: skip
                        names = model.predict(X[test])
                        given = names != "Unassigned"
                        error = np.mean(names[given] != labels[test][given]) if given.any() else 0.0
                        found.setdefault((kind, level), []).append((error, given.mean()))
        for (kind, level), values in found.items():
            errors, assigned = np.array(values).T
            key = {"set": name, "held out": kind, "confidence level": level, "fits": len(errors)}
            rows.append(key | {"error above 5 %": np.mean(errors > 0.05), "mean error": errors.mean()})
            rows[-1] |= {"worst error": errors.max(), "assigned": assigned.mean()}
    finish(rows, output)


@main.command()
@folder_argument
@output_option
@click.option("--splits", default=200, show_default=True)
def promise(folder, output, splits):
    """Count how often the realised error is above the target."""
    rows = []
    for name in ("zheng_sorted", "pbmc3k", "baron_pancreas"):
        cells, labels = read(folder, name)
        trees = {"flat": None}
        if name == "zheng_sorted":
            trees["tree"] = BLOOD
        order = np.argsort(-np.asarray(cells.X.mean(axis=0)).ravel())[:200]
        X = lognorm(cells.X)[:, order]
        found = {}
        for seed in range(splits):
            train, test = train_test_split(np.arange(len(labels)), test_size=0.5, stratify=labels, random_state=seed)
            for kind, tree in trees.items():
                for level in (None, 0.9):
                    model = RejectOptionClassifier(
                        LogisticRegression(C=0.03, tol=1e-3), hierarchy=tree, target_error=0.05,
                        confidence_level=level, random_state=seed,
                    ).fit(X[train], labels[train])  # fmt: skip
                    names = model.predict(X[test])
                    given = names != "Unassigned"
                    right = names == labels[test]
                    if tree is not None:
                        right = np.array([a in tree.path(b) for a, b in zip(names, labels[test], strict=True)])
                    found.setdefault((kind, level), []).append((np.mean(~right[given]), given.mean()))
        for (kind, level), values in found.items():
            errors, assigned = np.array(values).T
            key = {"set": name, "names": kind, "confidence level": level}
            rows.append(key | {"error above 5 %": np.mean(errors > 0.05)})
            rows[-1] |= {"mean error": errors.mean(), "assigned": assigned.mean()}
    finish(rows, output)


def levels_of(tree, truth, predicted):
    """Return the macro-F1 at each level: the top, one below, and the leaves."""
    scores = {}
    for depth in range(1, tree.max_depth + 1):
        pairs = [[tree.path(name)[:depth][-1] for name in names] for names in (truth, predicted)]
        scores[f"macro-F1 at level {depth}"] = f1_score(
            *pairs, average="macro", labels=sorted(set(pairs[0])), zero_division=0
        )
    return scores


@main.command()
@folder_argument
@output_option
@click.option("--cells", "most", default=100_000, show_default=True, help="The most cells of each donor.")
@click.option("--only", help="Run this method alone, so that the peak memory of the process is its own.")
@click.option("--celltypist", "celltypist_python", help="The Python of an environment that has CellTypist.")
def levels(folder, output, most, only, celltypist_python):
    """Judge each level of allen_m1_10x_140genes, from donor to donor."""
    cells, fine = read(folder, "allen_m1_10x_140genes", "cell_type_fine")
    donors = cells.obs["batch"].astype(str).to_numpy()
    columns = ["cell_type", "cell_type_mid", "cell_type_fine"]
    rng = np.random.default_rng(0)
    rows = []
    for donor in np.unique(donors):
        parts = []
        for is_in in (donors == donor, donors != donor):
            places = rng.permutation(np.flatnonzero(is_in))[:most]
            parts.append((cells[np.sort(places)].copy(), fine[np.sort(places)]))
        (reference, labels), (query, truth) = parts
        known = np.isin(truth, labels)
        query, truth = query[known].copy(), truth[known]
        tree = CellTypeTree.from_obs(reference, columns)
        is_coarse = rng.random(len(labels)) < 0.5
        coarse = np.where(is_coarse, [tree.parent(label) or label for label in labels], labels)
        log = make_pipeline(FunctionTransformer(lognorm), LogisticRegression(C=1.0, max_iter=300))
        svc = make_pipeline(FunctionTransformer(lognorm), LinearSVC(C=0.1, random_state=0))
        methods = {
            "flat": (None, 0.0, labels, slice(None)),
            "tree": (tree, 0.3, labels, slice(None)),
            "tree, level_weight=1": (tree, 1.0, labels, slice(None)),
            "tree, half of the labels coarse": (tree, 0.3, coarse, slice(None)),
            "flat, on the other half alone": (None, 0.0, labels, ~is_coarse),
        }
        if only is not None:
            methods = {name: method for name, method in methods.items() if name == only}
        for name, (hierarchy, weight, y, kept) in methods.items():
            start = time.perf_counter()
            model = make_cell_pipeline(
                hierarchy=hierarchy, classify__random_state=0, classify__level_weight=weight
            ).fit(reference[kept], y[kept])
            seconds = time.perf_counter() - start
            key = {"reference": donor, "cells": len(y[kept]), "method": name, "seconds": seconds}
            rows.append(key | levels_of(tree, truth, model.predict(query)))
        peers = {"logistic regression": log, "LinearSVC": svc}
        if only is not None:
            peers = {name: peer for name, peer in peers.items() if name == only}
        for name, model in peers.items():
            start = time.perf_counter()
            model.fit(reference.X, labels)
            key = {"reference": donor, "cells": len(labels), "method": name, "seconds": time.perf_counter() - start}
            rows.append(key | levels_of(tree, truth, model.predict(query.X)))
        if celltypist_python is not None:
            seconds, predicted = by_celltypist(celltypist_python, reference, query)
            key = {"reference": donor, "cells": len(labels), "method": "CellTypist", "seconds": seconds}
            rows.append(key | levels_of(tree, truth, predicted))
    finish(rows, output)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


CELLTYPIST = """
import sys, time
import anndata as ad, celltypist, numpy as np
folder = sys.argv[1]
celltypist.logger.set_level(40)
def read(name):
    cells = ad.read_h5ad(f"{folder}/{name}.h5ad")
    cells.X = cells.X.tocsr().astype(np.float32)
    totals = np.maximum(np.asarray(cells.X.sum(axis=1)), 1)
    cells.X = cells.X.multiply(1e4 / totals).tocsr().log1p()
    return cells
train, query = read("reference"), read("query")
start = time.perf_counter()
model = celltypist.train(train, labels="cell_type_fine", check_expression=False, n_jobs=2)
print(time.perf_counter() - start)
types = celltypist.annotate(query, model=model).predicted_labels["predicted_labels"]
np.savetxt(f"{folder}/types.txt", types.to_numpy(dtype=str), fmt="%s")
"""


def by_celltypist(python, reference, query):
    """Return the seconds that CellTypist trains, and the types that it predicts."""
    with tempfile.TemporaryDirectory() as temporary:
        reference.write_h5ad(Path(temporary) / "reference.h5ad")
        query.write_h5ad(Path(temporary) / "query.h5ad")
        command = [python, "-c", CELLTYPIST, temporary]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return float(printed.split()[-1]), np.loadtxt(Path(temporary) / "types.txt", dtype=str, delimiter="\t")


def f1_of_new(truth, predicted, new):
    """Return the F1 of a new type and the mean of the others."""
    types = sorted(set(truth))
    scores = dict(zip(types, f1_score(truth, predicted, average=None, labels=types), strict=True))
    of_new = scores.pop(new)
    return {"F1 of the new type": of_new, "mean F1 of the others": np.mean(list(scores.values()))}


@main.command()
@folder_argument
def grow(folder):
    """Train on nine types of zheng_sorted, then add the tenth."""
    cells, labels = read(folder, "zheng_sorted")
    train, test = train_test_split(np.arange(len(labels)), test_size=0.3, stratify=labels, random_state=0)
    reference, query = cells[train].copy(), cells[test].copy()
    rows = []
    for new in ("CD56+ NK", "CD34+", "CD8+ Cytotoxic T"):
        few = CellTypeTree(dict.fromkeys(sorted(set(labels) - {new})))
        everything = CellTypeTree(dict.fromkeys(sorted(set(labels))))
        known = labels[train] != new
        anew = make_cell_pipeline(hierarchy=everything, classify__random_state=0)
        start = time.perf_counter()
        anew.fit(reference, labels[train])
        key = {"new type": new, "training": "anew", "seconds": time.perf_counter() - start}
        rows.append(key | f1_of_new(labels[test], anew.predict(query), new))
        # The genes are those of all cells: a selection of nine types may lack the markers of the tenth.
        front = anew[:-1]
        X, Q = front.transform(reference), front.transform(query)
        classifier = make_cell_pipeline(classify__random_state=0, classify__hierarchy=few)[-1]
        classifier.fit(X[known], labels[train][known])
        for epochs in (2, 5, 10):
            grown = make_cell_pipeline(classify__random_state=0, classify__hierarchy=few)[-1]
            grown.fit(X[known], labels[train][known])
            grown.set_params(hierarchy=everything, warm_start=True, epochs=epochs)
            start = time.perf_counter()
            grown.fit(X, labels[train])
            key = {"new type": new, "training": f"grown, {epochs} epochs", "seconds": time.perf_counter() - start}
            rows.append(key | f1_of_new(labels[test], grown.predict(Q), new))
    finish(rows, None)


if __name__ == "__main__":
    main()
