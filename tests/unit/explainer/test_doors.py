"""The explainer's HTTP door, and what the service's own process is made of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient

from affiant.common.auth import KnownPerson, People, token_hash
from affiant.common.http import make_app
from affiant.explainer.app import make_service
from affiant.explainer.settings import ExplainerSettings


async def no_problems() -> list[str]:
    return []


def client(tmp_path: Path) -> TestClient:
    service = make_service(ExplainerSettings(data_dir=str(tmp_path)))
    people = People([KnownPerson("iris", ["auditor"], token_hash("iris-token"))])
    return TestClient(make_app(service, no_problems, lambda: True, people))


def test_the_document_says_what_is_asked_and_answered(tmp_path: Path) -> None:
    app = FastAPI()
    app.include_router(make_service(ExplainerSettings(data_dir=str(tmp_path))).api)
    paths = app.openapi()["paths"]
    assert set(paths) == {
        "/v1/explanations",
        "/v1/explanations/{prediction_id}",
        "/v1/explanations/{prediction_id}/plots/{kind}.svg",
        "/v1/models/{model}/versions/{version}/explanation",
        "/v1/models/{model}/versions/{version}/plots/{kind}.svg",
        "/v1/queue",
    }
    asked = paths["/v1/explanations"]["post"]
    assert asked["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/Wanted")
    assert "parameters" not in asked
    assert asked["responses"]["202"]["content"]["application/json"]["schema"]["$ref"].endswith("/Explanation")


def test_nobody_without_a_token_is_answered(tmp_path: Path) -> None:
    for method, path in (
        ("POST", "/v1/explanations"),
        ("GET", "/v1/explanations"),
        ("GET", "/v1/explanations/x"),
        ("GET", "/v1/queue"),
    ):
        assert client(tmp_path).request(method, path).status_code == 401


def test_a_method_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    wanted = {"prediction_id": "x", "methods": ["lime"]}
    answer = client(tmp_path).post("/v1/explanations", json=wanted, headers={"Authorization": "Bearer iris-token"})
    assert answer.status_code == 422 and "methods" in answer.json()["error"]


def test_making_the_service_touches_nothing(tmp_path: Path) -> None:
    make_service(ExplainerSettings(data_dir=str(tmp_path / "data")))
    assert list(tmp_path.iterdir()) == []


def test_the_service_itself_imports_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys, affiant.explainer.app; heavy = {'alibi', 'shap', 'numpy', 'pandas', 'sklearn', 'onnxruntime'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
