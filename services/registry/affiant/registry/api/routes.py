"""The HTTP doors of the registry, below /v1."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, File, Form, Header, Path, Query, Response, UploadFile
from fastapi.responses import FileResponse

from affiant.common.auth import Person, needs
from affiant.common.events import Alias
from affiant.common.ids import MODEL_NAME
from affiant.registry.actions.lifecycle import Lifecycle
from affiant.registry.actions.lookup import Lookup
from affiant.registry.actions.order import Order
from affiant.registry.actions.registration import Registration, Upload
from affiant.registry.api import views
from affiant.registry.domain.manifest import read_manifest

FORM_BYTES = 2 * 1024 * 1024
"""Room in an upload for the manifest and the multipart frame."""

Model = Annotated[str, Path(pattern=MODEL_NAME.pattern, description="The model's name, a DNS label.")]
Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="The version's number.")]


Anybody = Annotated[Person, Depends(needs())]
Author = Annotated[Person, Depends(needs("author"))]
Tagger = Annotated[Person, Depends(needs("author", "approver"))]
Approver = Annotated[Person, Depends(needs("approver"))]
Roller = Annotated[Person, Depends(needs("approver", "operator"))]
Packager = Annotated[Person, Depends(needs("approver", "operator"))]
Trace = Annotated[str, Header(alias="traceparent", description="W3C trace context; the event carries it on.")]


def make_api(registration: Registration, lifecycle: Lifecycle, lookup: Lookup) -> APIRouter:
    """All routes, put together."""
    api = APIRouter(prefix="/v1")
    api.include_router(_registering(registration))
    api.include_router(_changing(lifecycle))
    api.include_router(_reading(lookup))
    return api


def _registering(registration: Registration) -> APIRouter:
    most = registration.max_model_bytes + registration.max_background_bytes + FORM_BYTES
    api = APIRouter(tags=["registration"])
    refused: dict[int | str, dict[str, Any]] = {
        422: {"model": views.RefusalView, "description": "A check failed: `checks` says which, and what to do."}
    }

    # Without a bound, a body of any length would be written to the disk before anybody asks.
    @api.post("/models/{model}/versions", status_code=201, responses=refused, max_body_size=most)
    async def register(
        name: Annotated[str, Path(alias="model", description="The model's name, a DNS label.")],
        by: Author,
        response: Response,
        file: Annotated[UploadFile, File(alias="model", description="The ONNX file.")],
        background: Annotated[
            UploadFile | None,
            File(description="CSV with a header: rows of training data. Needed for a model with a decision."),
        ] = None,
        manifest: Annotated[str, Form(description="JSON: what cannot be read from the files.")] = "{}",
        digest: Annotated[str, Form(description="The SHA-256 that the sender computed of the ONNX file.")] = "",
        reason: Annotated[str, Form(description="Why this version is registered.")] = "",
        trace: Trace = "",
    ) -> views.VersionView:
        """Register a version of a model: it is examined first, and gets the next number when every check passes."""
        upload = Upload(name, file.file, background.file if background else None, read_manifest(manifest), digest)
        version = await registration.register(upload, Order(by.name, reason, trace))
        response.headers["Location"] = f"/v1/models/{version.model}/versions/{version.version}"
        return views.version_view(version)

    return api


def _changing(lifecycle: Lifecycle) -> APIRouter:
    api = APIRouter(tags=["lifecycle"])

    @api.post("/models/{model}/versions/{version}/promote")
    async def promote(
        model: Model, version: Number, by: Approver, wish: views.Promote, trace: Trace = ""
    ) -> views.VersionView:
        """Approve a version: the alias points to it from now on. Its author may not."""
        return views.version_view(
            await lifecycle.promote(model, version, wish.alias, Order(by.name, wish.reason, trace), wish.traffic)
        )

    @api.post("/models/{model}/rollback")
    async def rollback(
        model: Model, by: Roller, wish: Annotated[views.Rollback | None, Body()] = None, trace: Trace = ""
    ) -> views.VersionView:
        """Let an alias point to the version that held it before."""
        wish = wish or views.Rollback()
        return views.version_view(await lifecycle.rollback(model, wish.alias, Order(by.name, wish.reason, trace)))

    @api.post("/models/{model}/versions/{version}/deprecate")
    async def deprecate(
        model: Model,
        version: Number,
        by: Approver,
        wish: Annotated[views.Deprecate | None, Body()] = None,
        trace: Trace = "",
    ) -> views.VersionView:
        """Advise against a version; what serves it goes on."""
        wish = wish or views.Deprecate()
        return views.version_view(await lifecycle.deprecate(model, version, Order(by.name, wish.reason, trace)))

    @api.post("/models/{model}/versions/{version}/archive")
    async def archive(
        model: Model,
        version: Number,
        by: Approver,
        wish: Annotated[views.Archive | None, Body()] = None,
        trace: Trace = "",
    ) -> views.VersionView:
        """Take a version out of use, and its aliases away."""
        wish = wish or views.Archive()
        return views.version_view(
            await lifecycle.archive(model, version, Order(by.name, wish.reason, trace), force=wish.force)
        )

    @api.put("/models/{model}/versions/{version}/image")
    async def package(
        model: Model, version: Number, by: Packager, wish: views.Package, trace: Trace = ""
    ) -> views.VersionView:
        """Record the container image that holds this version; promotions from now on carry it."""
        order = Order(by.name, wish.reason, trace)
        return views.version_view(await lifecycle.package(model, version, wish.image, wish.platforms, order))

    @api.put("/models/{model}/versions/{version}/tags")
    async def tag(
        model: Model, version: Number, by: Tagger, tags: dict[str, str], trace: Trace = ""
    ) -> views.VersionView:
        """Replace a version's tags."""
        return views.version_view(await lifecycle.set_tags(model, version, tags, Order(by.name, trace=trace)))

    return api


def _reading(lookup: Lookup) -> APIRouter:
    api = APIRouter(tags=["lookup"])

    @api.get("/models")
    async def models(_: Anybody) -> views.ModelList:
        """Every model, by name."""
        return views.ModelList([views.model_summary(model) for model in await lookup.models()])

    @api.get("/models/{model}")
    async def model(model: Model, _: Anybody) -> views.ModelView:
        """A model with its versions, the newest first."""
        return views.model_view(await lookup.model(model))

    @api.get("/models/{model}/versions/{version}")
    async def version(model: Model, version: Number, _: Anybody) -> views.VersionView:
        """One version: its signature, columns, decision, checks, aliases, and where it is served."""
        return views.version_view(await lookup.version(model, version))

    @api.get("/models/{model}/history")
    async def history(model: Model, _: Anybody) -> views.History:
        """Who did what, when and why, oldest first; refused registrations too."""
        return views.history_view(model, await lookup.history(model))

    @api.get("/models/{model}/champion")
    async def champion(
        model: Model,
        _: Anybody,
        at: Annotated[str, Query(description="RFC 3339; now where none is given.")] = "",
        alias: Alias = "champion",
    ) -> views.HolderView:
        """The version that an alias pointed to at a time, and by whose approval."""
        return views.holder_view(await lookup.holder(model, alias, at))

    @api.get("/artifacts/{digest}", response_class=FileResponse)
    async def artifact(digest: str, _: Anybody) -> FileResponse:
        """The bytes of a model or of its background data, by their SHA-256."""
        # What a digest names never changes, so whoever has it need not ask again.
        headers = {"ETag": f'"{digest}"', "Cache-Control": "private, max-age=31536000, immutable"}
        return FileResponse(await lookup.artifact(digest), media_type="application/octet-stream", headers=headers)

    return api
