"""Computes medians, spreads and ratios of repeats."""

import dataclasses
import statistics


@dataclasses.dataclass(frozen=True)
class Quantity:
    """The title and unit of a measure, and whether larger values are better."""

    title: str
    unit: str
    more_is_better: bool = False


QUANTITIES = {
    "infer": Quantity("inference", "images/s", True),
    "train": Quantity("training", "images/s", True),
    "first_infer": Quantity("first inference call", "s"),
    "first_train": Quantity("first training step", "s"),
    "import": Quantity("import", "s"),
    "build": Quantity("build", "s"),
    "load": Quantity("build and load", "s"),
    "memory_infer": Quantity("peak memory, inference", "bytes"),
    "memory_train": Quantity("peak memory, training", "bytes"),
    "file": Quantity("weight file", "bytes"),
}


def spread(values):
    """Computes median and quartiles with linear interpolation.

    Args:
        values: non-empty list of numbers.

    Returns:
        Dictionary: median, low (first quartile), high (third quartile).

    Example:

    >>> spread([4.0, 1.0, 3.0, 2.0, 5.0])
    {'median': 3.0, 'low': 2.0, 'high': 4.0}
    """
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * [values[0]]
    return {"median": median, "low": low, "high": high}


def ratios(values, reference, more_is_better):
    """Computes the ratio to the reference for each repeat; above 1 is better, whatever the unit.

    Args:
        values, reference: lists of numbers, one per repeat, in the same order.
        more_is_better: whether larger values are better.

    Returns:
        List of ratios.

    Raises:
        ValueError: if the lists differ in length.

    Example:

    >>> ratios([10.0, 30.0], [5.0, 10.0], more_is_better=True)
    [2.0, 3.0]
    >>> ratios([10.0, 30.0], [5.0, 10.0], more_is_better=False)
    [0.5, 0.3333333333333333]
    """
    pairs = zip(values, reference, strict=True)
    return [value / other if more_is_better else other / value for value, other in pairs]


def summarize(results, references, floors=()):
    """Creates the rows of the table.

    Args:
        results: list of `benchmarks.measure.Result`. Measures interrupted by a failure are omitted.
        references: dictionary from a network to the `Contender` that the others are compared with.
        floors: list of dictionaries returned by `benchmarks.machine.floors`.

    Returns:
        List of dictionaries: network, measure (a key of `QUANTITIES`), contender, precision, ratio and value (each as
        in `spread`; the ratio is None if the reference has no value).
    """
    by_contender = {result.contender: result for result in results}
    rows = []
    for network in dict.fromkeys(result.contender.network for result in results):
        group = [result for result in results if result.contender.network == network]
        reference = by_contender.get(references.get(network))
        for measure in QUANTITIES:
            repeats = max((len(result.values.get(measure, ())) for result in group), default=0)
            theirs = reference.values.get(measure, []) if reference else []
            theirs = theirs if len(theirs) == repeats else []
            for result in group:
                values = result.values.get(measure, [])
                if values and len(values) == repeats:
                    rows.append(_row(result.contender, measure, values, theirs))
            rows += [
                _floor_row(floor, theirs)
                for floor in floors
                if repeats and floor["network"] == network and floor["measure"] == measure
            ]
    return rows


def _row(contender, measure, values, theirs):
    better = ratios(values, theirs, QUANTITIES[measure].more_is_better) if theirs else None
    return {
        "network": contender.network,
        "measure": measure,
        "contender": contender.name,
        "precision": contender.precision,
        "ratio": spread(better) if better else None,
        "value": spread(values),
    }


def _floor_row(floor, theirs):
    values = len(theirs or [1]) * [floor["images_per_second"]]
    return {
        "network": floor["network"],
        "measure": floor["measure"],
        "contender": "floor",
        "precision": floor["precision"],
        "ratio": spread(ratios(values, theirs, True)) if theirs else None,
        "value": spread(values),
    }
