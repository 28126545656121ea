"""alibi changed its licence after 0.9.4: what is installed must be the last release that everybody may use."""

from __future__ import annotations

from importlib.metadata import distribution


def test_the_installed_alibi_is_the_last_release_under_the_apache_licence() -> None:
    alibi = distribution("alibi")
    assert alibi.version == "0.9.4"
    assert alibi.metadata["License"] == "Apache 2.0"
    assert "License :: OSI Approved :: Apache Software License" in alibi.metadata.get_all("Classifier", [])
    text = (alibi.read_text("LICENSE") or "").lstrip()
    assert text.startswith("Apache License") and "Business Source License" not in text
