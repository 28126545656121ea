"""The letter itself, as text and as a page of HTML that needs nothing from elsewhere."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from datetime import datetime
from html import escape

WIDTH = 78


@dataclass(frozen=True)
class Letter:
    """What is told to a person. `reasons` are in the words of the reviewed table, the strongest first."""

    prediction_id: str
    model: str
    decided_at: str
    decision: str
    reasons: list[str]
    baseline: str
    table_digest: str
    sender: str = ""

    @property
    def subject(self) -> str:
        return f"The decision of {datetime.fromisoformat(self.decided_at):%d %B %Y}: {self.decision}"

    @property
    def opening(self) -> str:
        return (
            "A decision was made on your application with the help of a computer model, and it went against you. "
            + ("The principal reason was:" if len(self.reasons) == 1 else "The principal reasons were these:")
        )

    @property
    def meaning(self) -> str:
        return (
            "These are what counted most against your application, compared with other applications that the model "
            "knows. They were checked: had they been as they are with those others, the model's answer would have "
            "been nearer to the decision that you hoped for. That does not promise another decision."
        )

    @property
    def rights(self) -> str:
        return (
            "You may ask for a person to look at this decision again, and correct anything about you that is not "
            "right. Please give the reference below."
        )

    @property
    def reference(self) -> list[tuple[str, str]]:
        """What lets everybody find the record of this decision."""
        return [
            ("Reference", self.prediction_id),
            ("Model", self.model),
            ("Compared with", self.baseline),
            ("Wording", self.table_digest[:19]),
        ]


def text(letter: Letter) -> str:
    """The letter as plain text."""
    reasons = [
        textwrap.fill(reason, WIDTH, initial_indent=f"  {number}. ", subsequent_indent="     ")
        for number, reason in enumerate(letter.reasons, start=1)
    ]
    parts = [letter.subject, textwrap.fill(letter.opening, WIDTH), "\n".join(reasons)]
    parts += [textwrap.fill(paragraph, WIDTH) for paragraph in (letter.meaning, letter.rights)]
    parts += [letter.sender] if letter.sender else []
    return "\n\n".join([*parts, "\n".join(f"{name}: {value}" for name, value in letter.reference)])


def page(letter: Letter) -> str:
    """The letter as an HTML page."""
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in letter.reasons)
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in letter.reference)
    sender = f"<p>{escape(letter.sender)}</p>" if letter.sender else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(letter.subject)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(letter.subject)}</h1><p>{escape(letter.opening)}</p><ol>{reasons}</ol>"
        f"<p>{escape(letter.meaning)}</p><p>{escape(letter.rights)}</p>{sender}<dl>{facts}</dl></body></html>\n"
    )


STYLE = (
    "body{font:1.05rem/1.5 Georgia,serif;max-width:38rem;margin:4rem auto;padding:0 1rem;color:#1a1a1a}"
    "h1{font-size:1.25rem}dl{margin-top:3rem;font-size:.8rem;color:#555;display:grid;grid-template-columns:auto 1fr;"
    "gap:.1rem 1rem}dd{margin:0;overflow-wrap:anywhere}"
)
