"""Writing a dossier: a folder, or one zip with the same files in it.

`index.html` for people, `dossier.json` for programs, `log/` for `affiant verify` (see docs/verify.md).
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from affiant.cli.dossier import page
from affiant.cli.dossier.facts import Json
from affiant.common.errors import Conflict

README = """A dossier of one decision, made by affiant.

index.html     for people: opens offline, prints
dossier.json   the same for programs
log/           the signed checkpoint, the log's public key, and a proof for each entry that the dossier rests on

Verify:  affiant verify .
Without Affiant, one file that needs Python 3.11 and the package cryptography:
         affiant verify --write affiant_verify.py   (on a machine that has it)
         python affiant_verify.py . --key log.vkey  (log.vkey: got on another way than this dossier)
"""


def files(found: Json, verified: str) -> dict[str, str]:
    """The name of each file and its text."""
    proof = found["prediction"]["proof"]
    checkpoint = found["entries"][0]["checkpoint"] if found["entries"] else proof["checkpoint"]
    return {
        "index.html": page.render(found, verified),
        "dossier.json": json.dumps(found, ensure_ascii=False, indent=1) + "\n",
        "README.txt": README,
        "log/checkpoint": checkpoint,
        "log/log.vkey": proof["verifier_key"] + "\n",
        "log/entries.jsonl": "".join(json.dumps(_line(one)) + "\n" for one in found["entries"]),
    }


def _line(proof: Json) -> Json:
    """An entry as `affiant verify` reads it."""
    return {
        "index": proof["index"],
        "leaf": proof["leaf"],
        "salt": proof["salt"],
        "body": proof["payload"],
        "proof": proof["path"],
    }


def write(texts: Mapping[str, str], out: Path) -> None:
    """Write the files to `out`: one zip where its name ends in .zip, else a new folder. Raises `Conflict`."""
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise Conflict(f"{out} exists already", hint="name another place with --out")
    if out.suffix == ".zip":
        draft = out.with_name(f".{out.name}.new")
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, text in texts.items():
                packed.writestr(name, text)
        draft.replace(out)
        return
    for name, text in texts.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
