"""From a classifier's outputs to its decision."""

from __future__ import annotations

from collections.abc import Sequence

from affiant.common.events import ABOVE, BELOW, Decision, TensorSpec
from affiant.registry.domain.manifest import Manifest, Unfit

LABEL_TYPES = ("BYTES", "INT64", "INT32", "INT16", "INT8", "UINT8", "UINT16", "UINT32", "UINT64")
Label = str | int


def choose_outputs(outputs: Sequence[TensorSpec], manifest: Manifest) -> tuple[str, str]:
    """The names of the label output and the probability output, as stated or by type and shape.

    A label output holds strings or integers, (N,) or (N, 1); a probability output floating-point numbers (N, C)
    with C of at least two. Raises `Unfit` when none or several fit and the manifest does not say which.
    """
    labels = [each.name for each in outputs if _may_be_label(each)]
    probabilities = [each.name for each in outputs if _may_be_probabilities(each)]
    wanted = "strings or integers of shape (N,) or (N, 1)"
    label = _choose("label_output", manifest.label_output, labels, outputs, wanted)
    wanted = "floating-point numbers of shape (N, C), one column for each class, C of at least 2"
    return label, _choose("probability_output", manifest.probability_output, probabilities, outputs, wanted)


def choose_value_output(outputs: Sequence[TensorSpec], manifest: Manifest) -> str:
    """The name of a regression's output, as stated or by type and shape. Raises `Unfit` as `choose_outputs` does."""
    fitting = [each.name for each in outputs if each.datatype.startswith("FP") and _one_each(each)]
    wanted = "floating-point numbers of shape (N,) or (N, 1)"
    return _choose("value_output", manifest.value_output, fitting, outputs, wanted)


def _may_be_label(output: TensorSpec) -> bool:
    return output.datatype in LABEL_TYPES and _one_each(output)


def _one_each(output: TensorSpec) -> bool:
    return len(output.shape) == 1 or (len(output.shape) == 2 and output.shape[1] == 1)


def _may_be_probabilities(output: TensorSpec) -> bool:
    return output.datatype.startswith("FP") and len(output.shape) == 2 and output.shape[1] not in (0, 1)


def _choose(role: str, stated: str, fitting: list[str], outputs: Sequence[TensorSpec], wanted: str) -> str:
    if stated and stated not in fitting:
        raise Unfit(f"{role} is {stated!r}, which is no output with {wanted}; the model has {_describe(outputs)}")
    if stated:
        return stated
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise Unfit(f"several outputs could be the {role} ({', '.join(fitting)}); say which in the manifest")
    raise Unfit(
        f"no output can be the {role}: it needs {wanted}; the model has {_describe(outputs)}. Export a classifier "
        "with both (skl2onnx: zipmap=False), state a `threshold` for a regression, or leave `favourable` out to "
        "register a model without a decision"
    )


def _describe(outputs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{o.name} {o.datatype}{o.shape}" for o in outputs)


def choose_classes(
    stated: Sequence[Label] | None, in_graph: Sequence[Sequence[Label]], seen: set[Label], count: int
) -> list[Label]:
    """The labels in the order of the probabilities: as stated, else from the graph, else from the labels seen.

    `in_graph` are the label lists that the graph's operators carry, `seen` the labels of the smoke run, `count`
    the number of probability columns. Raises `Unfit` when they contradict each other or nothing tells.
    """
    if stated is not None:
        return _fitting(list(stated), seen, count, "classes in the manifest")
    for labels in in_graph:
        if len(labels) == count and seen <= set(labels):
            return list(labels)
    if len(seen) == count:
        # scikit-learn, and with it every common exporter, sorts the classes.
        return sorted(seen, key=lambda label: (isinstance(label, str), label))
    integers = all(isinstance(label, int) for label in seen)
    if integers and seen <= set(range(count)):
        return list(range(count))
    raise Unfit(
        f"the model has {count} probabilities, but only the labels {sorted(map(str, seen))} were seen on the "
        "background data; state `classes` in the manifest: the labels in the order of the probabilities"
    )


def _fitting(classes: list[Label], seen: set[Label], count: int, where: str) -> list[Label]:
    if len(classes) != count:
        raise Unfit(f"{where}: {len(classes)} labels for {count} probabilities; name one label for each")
    strangers = seen - set(classes)
    if strangers:
        raise Unfit(f"{where}: the model also answers {sorted(map(str, strangers))}, which are not among them")
    return classes


def decide(label_output: str, probability_output: str, classes: list[Label], favourable: Label) -> Decision:
    """The decision; `favourable` may be written as text for a number (from a command line)."""
    known = [label for label in classes if str(label) == str(favourable)]
    if not known:
        raise Unfit(f"favourable is {favourable!r}, but the model answers one of {', '.join(map(str, classes))}")
    return Decision(
        label_output=label_output, probability_output=probability_output, classes=classes, favourable=known[0]
    )


def decide_by_threshold(value_output: str, threshold: float, favourable: Label) -> Decision:
    """The decision of a regression: which side of `threshold` its value lies on."""
    return Decision(
        label_output="",
        probability_output="",
        classes=[BELOW, ABOVE],
        favourable=favourable,
        value_output=value_output,
        threshold=threshold,
    )
