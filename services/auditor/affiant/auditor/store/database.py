"""The seam between the record and the database that keeps it.

The functions of the store's other modules are written once, for both back ends: `?` marks for values (no numbered
ones), standard types, `ON CONFLICT` with a target where it updates, no functions that only one of them has. A truth
value is stored as 0 or 1; whole numbers come back as `int`, binary values as `bytes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

Row = Sequence[Any]
Dialect = Literal["sqlite", "postgresql"]


class StoreAway(Exception):
    """The store cannot be written or read at this moment: full disk, lock, lost connection. Try again."""


class Standby(StoreAway):
    """Another process writes the log. This one may read; it writes when the other is gone."""


class Result(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""

    def fetchone(self) -> Any:
        """The next row, a tuple, or None."""

    def fetchall(self) -> list[Any]:
        """The rows that are left, each a tuple."""

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """An open connection inside a transaction; never kept beyond it."""

    @property
    def dialect(self) -> Dialect:
        """Which back end this is, for the few statements that cannot be the same on both."""

    def execute(self, sql: str, parameters: Row = (), /) -> Result:
        """Run one statement."""

    def executemany(self, sql: str, rows: Iterable[Row], /) -> object:
        """Run a statement that answers nothing, once for each row of values."""

    def insert_rows(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Insert many rows the fastest way there is. One that is there already is an error about data."""

    def among(self, column: str, values: Sequence[str] | Sequence[int]) -> tuple[str, Any]:
        """A condition "`column` is one of `values`" however many there are, and the one value for its mark."""


class Database(Protocol):
    """A store. One thread at a time may lead and write; any number may read."""

    on_commit: Callable[[float], None]
    """Told how many seconds each commit took."""

    @property
    def place(self) -> str:
        """Where it is, for a person to read; without secrets."""

    def open(self) -> None:
        """Lead, and make the store one of the present version: `lead`, then `schema` run where it is needed.

        Raises `Standby` where another process leads, `Problem` for a store of a version that is not known here.
        """

    def lead(self) -> None:
        """Become the one process that writes, or make sure that it is this one still. Raises `Standby`, `StoreAway`."""

    def transaction(self) -> AbstractContextManager[Connection]:
        """A transaction that is durable when the block ends, or did not happen at all.

        Raises `Standby` where this process does not lead, `StoreAway`, and for rows that can never be stored the
        back end's own error.
        """

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection that can only read, with one view of the store until the block ends. Raises `StoreAway`."""

    def version(self) -> int:
        """The version of the stored schema; 0 where there is no store yet. Raises `StoreAway`."""

    def bytes(self) -> int:
        """How much room the store takes. Raises `StoreAway`."""

    def scrub(self) -> bool:
        """After an erasure: have what was overwritten leave the store's files, as far as they can be told to.

        False where somebody reads what is to go; called again it tries again. Raises `StoreAway`.
        """

    def compact(self, most: int) -> int:
        """Give up to `most` bytes that are free inside of the store back to the disk; returns how many it were.

        0 where the back end does that by itself. Raises `Standby`, `StoreAway`.
        """

    def close(self) -> None:
        """Close every connection and lead no more. Only when no thread uses one any longer."""
