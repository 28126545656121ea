"""Pushing an image to a registry, and fetching what it is built upon, by the OCI distribution protocol (oras)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import httpx

from affiant.cli.images import INDEX, MANIFEST, PLATFORMS, Base, Layout, blobs, digest_of
from affiant.common.errors import NotFound, Problem, Unavailable

DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_LISTS = (INDEX, DOCKER_LIST)
_ACCEPT = ", ".join((INDEX, MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))

Say = Callable[[str], None]

LOG_IN = "is its name right, and may you push there? log in: docker login, or write ~/.docker/config.json"
PAUSES = (0.5, 2.0)
"""Seconds before a registry that stumbled is asked again."""


class Repository:
    """A repository of a registry: `host/path`, with a tag or a digest. Who one is comes from Docker's configuration."""

    def __init__(self, address: str, *, insecure: bool = False) -> None:
        try:
            from oras.container import Container
            from oras.provider import Registry
        except ModuleNotFoundError as error:
            raise Problem("pushing needs the package oras", hint='pip install "affiant[package]"') from error
        try:
            self._container = Container(address)
        except ValueError as error:
            raise Problem(f"{address!r} names no image: {error}", hint="registry.example.com/models/loan:3") from error
        # A registry on this machine speaks plain HTTP; every other one must not.
        plain = insecure or urlsplit(f"//{address}").hostname in ("127.0.0.1", "localhost")
        self._scheme = "http" if plain else "https"
        kind = self._asks_for()
        self._registry = Registry(insecure=plain, auth_backend=kind)
        self._registry.auth.load_configs(self._container)
        if kind == "basic" and not getattr(self._registry.auth, "_basic_auth", ""):
            raise Problem(f"the registry {self._container.registry} asks who you are", hint=LOG_IN)

    def _asks_for(self) -> str:
        """Whether the registry wants a password with each request or hands out tokens: oras must be told."""
        answer = self._try(lambda: httpx.get(f"{self._scheme}://{self._container.registry}/v2/", timeout=30))
        return "basic" if answer.headers.get("WWW-Authenticate", "").lower().startswith("basic") else "token"

    def _request(self, method: str, url: str, **more: Any) -> Any:
        # Without oras' own repetitions: they take two minutes before they say anything.
        once = self._registry.do_request.__wrapped__
        return self._try(lambda: once(self._registry, f"{self._scheme}://{url}", method, **more))

    @property
    def name(self) -> str:
        """Registry and path, without tag or digest."""
        return f"{self._container.registry}/{self._container.api_prefix}"

    def push(self, layout: Layout, index: str, say: Say) -> str:
        """Push every blob that is not there yet, then the manifests; returns `name@digest`."""
        for kind, part in blobs(layout, index):
            if kind == "blob":
                if layout.blob(part["digest"]).exists():
                    say(f"pushing {part['digest'][:19]}… ({part['size']:,} bytes)")
                    self._push_blob(layout, part)
                continue
            tag = self._container.tag if part["digest"] == index else part["digest"]
            self._put(layout.blob(part["digest"]).read_bytes(), part["mediaType"], tag)
        return f"{self.name}@{index}"

    def _push_blob(self, layout: Layout, part: dict[str, Any]) -> None:
        there = self._request("HEAD", self._container.get_blob_url(part["digest"]))
        if there.status_code == 200:
            return
        opened = self._request("POST", self._container.upload_blob_url())
        self._check(opened, "an upload")
        # The address of an upload is given whole or from the registry's root (OCI distribution, "Location").
        place = urlsplit(urljoin(f"{self._scheme}://{self._container.registry}/", opened.headers.get("Location", "")))
        query = "&".join(filter(None, (place.query, urlencode({"digest": part["digest"]}))))
        with layout.blob(part["digest"]).open("rb") as body:
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(part["size"])}
            answer = self._request("PUT", f"{place.netloc}{place.path}?{query}", data=body.read(), headers=headers)
        self._check(answer, f"the blob {part['digest']}")

    def _put(self, body: bytes, media_type: str, tag: str) -> None:
        # Not oras' own upload_manifest: it writes the JSON anew, and the bytes are what the digest is of.
        answer = self._request(
            "PUT", self._container.manifest_url(tag), data=body, headers={"Content-Type": media_type}
        )
        self._check(answer, f"the manifest {tag}")
        given, wanted = answer.headers.get("Docker-Content-Digest", ""), digest_of(body)
        if given and given != wanted:
            raise Problem(
                f"the registry stored {given} where {wanted} was sent", hint="a proxy changes what it passes on"
            )

    def base(self, layout: Layout, say: Say) -> Base:
        """Fetch this image for every platform that it has of ours; its blobs are kept in `layout`."""
        top = self._manifest(self._container.digest or self._container.tag)
        found = {
            one["platform"]["architecture"]: self._manifest(one["digest"])
            for one in top.get("manifests", [])
            if one.get("platform", {}).get("os") == "linux" and one["platform"]["architecture"] in PLATFORMS
        }
        if top.get("mediaType") not in _LISTS:
            config = self._fetch(layout, top["config"])
            found = {config["architecture"]: top}
        if not found:
            raise NotFound(f"the base {self.name} has no image for linux on {' or '.join(PLATFORMS)}")
        configs = {}
        for architecture, manifest in found.items():
            configs[architecture] = self._fetch(layout, manifest["config"])
            for layer in manifest["layers"]:
                say(f"fetching {layer['digest'][:19]}… of the base for {architecture}")
                self._blob(layout, layer)
        return Base({name: one["layers"] for name, one in found.items()}, configs)

    def _manifest(self, reference: str) -> dict[str, Any]:
        answer = self._request("GET", self._container.manifest_url(reference), headers={"Accept": _ACCEPT})
        self._check(answer, f"the manifest {reference}")
        _hold(answer.content, reference)
        found: dict[str, Any] = answer.json()
        return {"mediaType": answer.headers.get("Content-Type", ""), **found}

    def _fetch(self, layout: Layout, part: dict[str, Any]) -> dict[str, Any]:
        self._blob(layout, part)
        return layout.read(part["digest"])

    def _blob(self, layout: Layout, part: dict[str, Any]) -> None:
        answer = self._request("GET", self._container.get_blob_url(part["digest"]))
        self._check(answer, f"the blob {part['digest']}")
        _hold(answer.content, part["digest"])
        layout.add(answer.content, part["mediaType"])

    def _try(self, request: Callable[[], Any]) -> Any:
        """What is answered. A registry that stumbles is asked again, briefly; raises `Unavailable`."""
        reason = ""
        for pause in (*PAUSES, None):
            try:
                answer = request()
            except (OSError, ValueError, httpx.HTTPError) as error:  # what requests raises is an OSError
                reason = str(error)[:300]
            else:
                if answer.status_code < 500:
                    return answer
                reason = f"{answer.status_code} {answer.text[:200]}"
            if pause is not None:
                time.sleep(pause)
        raise Unavailable(f"the registry {self._container.registry} did not do it: {reason}", hint=LOG_IN)

    def _check(self, answer: Any, what: str) -> None:
        if answer.status_code >= 400:
            raise Problem(
                f"the registry {self._container.registry} refused {what}: {answer.status_code} {answer.text[:200]}",
                hint=LOG_IN,
            )


def _hold(body: bytes, reference: str) -> None:
    if reference.startswith("sha256:") and digest_of(body) != reference:
        raise Problem(f"what the registry sent is not {reference}")
