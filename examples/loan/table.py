"""A table of decisions: read from any CSV or TSV file, its columns understood, its people split.

`read` takes a file and what the user said about it; what was not said is guessed (`guess`), and each guess is
written into `Table.notes`.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from affiant.common.errors import Problem
from examples.loan import guess

MOST_ROWS = 20_000
MOST_CATEGORIES = 60
AGE_LIMIT = 40
"""Age is banded at 40 for fairness: the age from which US law protects (Age Discrimination Act, ADEA 1967)."""


@dataclass(frozen=True)
class Choices:
    """What the user said about a table; empty means: guess."""

    target: str = ""
    favourable: str = ""
    protected: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    feed_protected: bool = False


@dataclass(frozen=True)
class Column:
    """One column that the models see. Numeric: float64 with NaN for missing; categorical: str with "" for missing."""

    name: str
    kind: Literal["numeric", "categorical"]


@dataclass(frozen=True)
class Truth:
    """What is known of a made table: P(favourable | group) − P(favourable | reference), in the whole population."""

    column: str
    group: str
    reference: str
    parity_difference: float
    because: str


@dataclass(frozen=True)
class Table:
    """Decisions about people. `features` and `protected` have one row each; `labels` the decision as text.

    `protected` holds text groups only (numbers are banded). `notes` are sentences about what was guessed or dropped.
    """

    name: str
    source: str
    target: str
    favourable: str
    adverse: str
    columns: tuple[Column, ...]
    features: pd.DataFrame
    protected: pd.DataFrame
    labels: pd.Series[str]
    protected_are_inputs: bool = False
    notes: tuple[str, ...] = ()
    truth: tuple[Truth, ...] = field(default=())

    @property
    def rows(self) -> int:
        """How many decisions the table holds."""
        return len(self.labels)

    @property
    def adverse_rate(self) -> float:
        """The share of unfavourable decisions, 0–1."""
        return float((self.labels == self.adverse).mean())


def read(path: Path, choices: Choices) -> Table:
    """The table in a file. Raises `Problem` when the file is no table, or nothing in it looks like a decision."""
    return understand(_cells(path), path.stem, f"the file {path.name}", choices)


def understand(cells: pd.DataFrame, name: str, source: str, choices: Choices, truth: tuple[Truth, ...] = ()) -> Table:
    """Make a `Table` of raw text cells: choose target, outcome and protected columns, drop what cannot help."""
    notes: list[str] = []
    cells = _sampled(_without_row_numbers(cells, choices, notes), notes)
    target = _target(cells, choices, notes)
    cells = _decided(cells, target, notes)
    favourable, adverse = _outcomes(cells[target], choices, notes)
    protected_names = _protected_names(cells, target, choices, notes)
    sources = [c for c in cells.columns if c != target and (choices.feed_protected or c not in protected_names)]
    columns, features = _features(cells, sources, notes)
    kinds = {source: column.name for source, column in columns.items()}
    protected = _protected(cells, protected_names, kinds, notes)
    if protected_names and not choices.feed_protected:
        notes.append("the models do not see the protected columns: they travel beside each request, for fairness only")
    labels = cells[target].astype(str).rename("decision")
    return Table(
        name, source, target, favourable, adverse, tuple(columns.values()), features, protected, labels,
        choices.feed_protected, tuple(notes), truth,
    )  # fmt: skip


def _cells(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise Problem(f"there is no file {path}", hint="give --data the path of a CSV or TSV file")
    try:
        head = path.read_text(encoding="utf-8-sig")[:20_000]
        separator = _separator(path, head)
        cells = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise Problem(f"{path.name} is no table: {error}", hint="UTF-8 text, one header line, one row each") from error
    if cells.shape[1] < 2 or len(cells) < 100:
        rows, columns = cells.shape
        raise Problem(f"{path.name} has {rows} rows and {columns} columns; at least 100 rows and 2 columns are needed")
    return cells


def _separator(path: Path, head: str) -> str:
    if path.suffix.lower() in {".tsv", ".tab"}:
        return "\t"
    try:
        return csv.Sniffer().sniff(head.partition("\n")[0], delimiters=",;\t|").delimiter
    except csv.Error:
        return ","


def _without_row_numbers(cells: pd.DataFrame, choices: Choices, notes: list[str]) -> pd.DataFrame:
    unknown = [name for name in choices.drop if name not in cells.columns]
    if unknown:
        raise Problem(f"--drop names no column: {', '.join(unknown)}", hint=f"columns: {', '.join(cells.columns)}")
    said = {choices.target, *(choices.protected or ())}
    numbers = [
        name
        for place, name in enumerate(cells.columns)
        if name not in said and guess.is_row_number(name, cells[name].tolist(), first=place == 0)
    ]
    if numbers:
        notes.append(f"left out {_quoted(numbers)}: only numbers the rows")
    return cells.drop(columns=[*numbers, *choices.drop])


def _sampled(cells: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    if len(cells) <= MOST_ROWS:
        return cells
    notes.append(f"{MOST_ROWS:,} of {len(cells):,} rows, drawn by a fixed seed: more would only take longer")
    return cells.sample(MOST_ROWS, random_state=0).reset_index(drop=True)


def _target(cells: pd.DataFrame, choices: Choices, notes: list[str]) -> str:
    present = {name: {v for v in cells[name].unique() if not guess.is_missing(v)} for name in cells.columns}
    if choices.target:
        if len(present.get(choices.target, ())) != 2:
            found = f"has {len(present[choices.target])} values" if choices.target in present else "is no column"
            raise Problem(f"the target {choices.target!r} {found}; it must be a column of two values")
        return choices.target
    found_target = guess.target(present)
    if found_target is None:
        two = [name for name, values in present.items() if len(values) == 2]
        raise Problem(
            "no column looks like the decision",
            hint=f"name it with --target; columns of two values: {', '.join(two) or 'none'}",
        )
    notes.append(f"decision: the column “{found_target.value}” ({found_target.reason})")
    return found_target.value


def _decided(cells: pd.DataFrame, target: str, notes: list[str]) -> pd.DataFrame:
    decided = ~cells[target].map(guess.is_missing)
    if not decided.all():
        notes.append(f"left out {int((~decided).sum())} rows without a decision")
    return cells[decided].reset_index(drop=True)


def _outcomes(labels: pd.Series[str], choices: Choices, notes: list[str]) -> tuple[str, str]:
    counts = {str(value): int(count) for value, count in labels.value_counts().items()}
    if choices.favourable and choices.favourable not in counts:
        raise Problem(f"{choices.favourable!r} is no value of the target", hint=f"its values: {', '.join(counts)}")
    if min(counts.values()) < 20:
        raise Problem(f"one outcome has only {min(counts.values())} rows; at least 20 of each are needed")
    good = choices.favourable
    if not good:
        guessed = guess.favourable(str(labels.name), counts)
        good = guessed.value
        notes.append(f"favourable outcome: “{good}” ({guessed.reason})")
    return good, next(value for value in counts if value != good)


def _protected_names(cells: pd.DataFrame, target: str, choices: Choices, notes: list[str]) -> list[str]:
    if choices.protected is not None:
        unknown = [name for name in choices.protected if name not in cells.columns or name == target]
        if unknown:
            raise Problem(f"--protected names no column: {', '.join(unknown)}", hint=", ".join(cells.columns))
        return list(choices.protected)
    names = [name for name in cells.columns if name != target and guess.is_protected(name)]
    notes.append(
        f"protected: {_quoted(names)} (by their names)"
        if names
        else "no protected column recognised: name them with --protected for fairness figures"
    )
    return names


def _features(cells: pd.DataFrame, sources: Sequence[str], notes: list[str]) -> tuple[dict[str, Column], pd.DataFrame]:
    columns: dict[str, Column] = {}
    data: dict[str, pd.Series[float] | pd.Series[str]] = {}
    useless: list[str] = []
    for source in sources:
        values = _typed(cells[source])
        if values.nunique() < 2 or (values.dtype == object and values.nunique() > MOST_CATEGORIES):
            useless.append(source)
            continue
        name = guess.identifier(source, data)
        columns[source] = Column(name, "categorical" if values.dtype == object else "numeric")
        data[name] = values
    if useless:
        notes.append(f"left out {_quoted(useless)}: one value only, or too many different texts to learn from")
    renamed = [f"{source} → {column.name}" for source, column in columns.items() if source != column.name]
    if renamed:
        notes.append(f"renamed for ONNX: {', '.join(renamed)}")
    if not data:
        raise Problem("no column is left to decide by", hint="see --drop and --protected")
    return columns, pd.DataFrame(data)


def _typed(cells: pd.Series[str]) -> pd.Series[float] | pd.Series[str]:
    """Numbers where every present cell is one (flags of two whole numbers stay text), else text."""
    missing = cells.map(guess.is_missing)
    numbers = pd.to_numeric(cells.where(~missing), errors="coerce")
    flag = numbers.nunique() <= 2 and bool((numbers.dropna() % 1 == 0).all())
    if numbers[~missing].notna().all() and not flag and np.isfinite(numbers.dropna()).all():
        # The models' inputs are single precision: what is trained on is what will be sent.
        return numbers.astype(np.float32).astype(np.float64)
    return cells.str.strip().where(~missing, "").astype(object)


def _protected(cells: pd.DataFrame, names: Sequence[str], inputs: dict[str, str], notes: list[str]) -> pd.DataFrame:
    groups: dict[str, pd.Series[str]] = {}
    for source in names:
        values = _typed(cells[source])
        name = inputs.get(source) or guess.identifier(source, [*inputs.values(), *groups])
        if values.dtype == object and values.nunique() <= MOST_CATEGORIES:
            groups[name] = values
        elif values.dtype != object:
            # A band is a column of its own: the number itself may be an input of the model under its name.
            groups[f"{name}_band"], how = _banded(source, values)
            notes.append(how)
        else:
            notes.append(f"no fairness figures for “{source}”: too many different values")
    return pd.DataFrame(groups, index=cells.index)


def _banded(name: str, values: pd.Series[float]) -> tuple[pd.Series[str], str]:
    at_limit = float((values >= AGE_LIMIT).mean())
    is_age = "age" in guess.words(name) and 0.05 <= at_limit <= 0.95
    cut = float(AGE_LIMIT) if is_age else float(values.median())
    bands = np.where(values.isna(), "", np.where(values >= cut, f"{cut:g} and over", f"under {cut:g}"))
    why = "the age from which US law protects" if is_age else "its median"
    return pd.Series(
        bands, index=values.index, dtype=object
    ), f"“{name}” is compared in two bands, cut at {cut:g} ({why})"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"“{name}”" for name in names)
