"""The documentation over HTTP: indexes, pages, findings and data of the branches that have an index.

``/docs/`` lists the branches; ``/docs/<repository>/<ref>/`` is an index, with ``q``, ``area``, ``infoCode``,
``status``, ``verdict`` and ``page`` to search it; ``index.json`` below it its data; any other path below it the page of
that document, its findings with ``?findings``, its data with ``?artifact=metadata`` or ``canonical``. The names are
slugs (:mod:`coafi.names`); a ref is a branch, or the full SHA of a commit that an index was made of.

Documents may be confidential: see :class:`DocsAccess`.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from http import HTTPStatus

import structlog
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from coafi.artifacts.compose import PageLocation, Provenance, compose
from coafi.canonical import sha256
from coafi.database import Database
from coafi.documents.check import FileReport, Verdict
from coafi.errors import (
    AuthorizationError,
    CoafiError,
    IntegrityError,
    LedgerUnavailable,
    PolicyDenied,
    ResourceNotFoundError,
    Unavailable,
)
from coafi.index.build import INDEX_JSON, decode, page_link
from coafi.index.model import DocumentationIndex
from coafi.index.pages import Selection, findings_page, index_page, list_page, message_page
from coafi.index.pointers import IndexPointer, IndexReader
from coafi.ledger.entry import entry_key
from coafi.ledger.port import Ledger
from coafi.names import CONCLUDE, EntryType, parse_ref_slug, parse_repository_slug
from coafi.objects import ObjectStore
from coafi.processing import read_reports
from coafi.results import ArtifactResult, FileResult, ResultReader
from coafi.trees.commit import CommitTree
from coafi.trees.listing import TreeFile
from starters.access import bearer_token, is_from_here, is_loopback, is_one_of

log = structlog.stdlib.get_logger()

HISTORY = 20
"""Verdicts of a path that its page of findings shows."""

PAGE, IMAGE = "page", "image"
"""The kinds of artifact that stand for a document itself."""

_HTML = "text/html; charset=utf-8"
_POLICY = re.compile(rb'<meta http-equiv="Content-Security-Policy" content="([^"]*)">')
_RAW_POLICY = "default-src 'none'; sandbox"
_SVG_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
_STATUS: Mapping[type[CoafiError], int] = {
    AuthorizationError: 401,
    PolicyDenied: 403,
    ResourceNotFoundError: 404,
    Unavailable: 503,
}


@dataclass(frozen=True)
class DocsAccess:
    """Who may read the documentation.

    With tokens, whoever has one: as bearer, or as password of any user. Without, whoever is on this machine: the
    gateway must listen on a loopback address, be asked by one (another name can be pointed there from outside), and
    not through a proxy.

    Attributes:
        host: address that the gateway listens on.
    """

    tokens: tuple[SecretStr, ...]
    host: str

    def check(self, request: Request) -> None:
        """Let a request in, or raise.

        Raises:
            AuthorizationError: it has no token, or a wrong one.
            PolicyDenied: there are no tokens, and it is not from this machine.
        """
        if self.tokens:
            if not is_one_of(_token(request.headers.get("authorization", "")), self.tokens):
                raise AuthorizationError(
                    "the documentation is read with a token", remedy="give it as password of any user, or as bearer"
                )
            return
        remedy = "whoever runs the gateway has to set COAFI_DOCS_TOKENS"
        if not is_loopback(self.host):
            raise PolicyDenied(
                f"the documentation is open to this machine alone, and the gateway listens on {self.host}",
                remedy=remedy,
            )
        if not is_from_here(request):
            raise PolicyDenied("the documentation is open to this machine alone", remedy=remedy)


@dataclass(frozen=True)
class _Content:
    """What is answered.

    Attributes:
        policy: of a raw artifact; a page has its own.
    """

    body: bytes
    media_type: str = _HTML
    policy: str = ""
    status: int = 200


@dataclass(frozen=True)
class DocumentationPages:
    """The routes below ``/docs/``, and what they need."""

    database: Database
    objects: ObjectStore
    ledger: Ledger
    namespace: str
    access: DocsAccess

    def routes(self) -> list[Route]:
        """The routes, for the gateway."""
        return [
            Route("/docs/", self._guarded(self._list)),
            Route("/docs/{repository}/{ref}/", self._guarded(self._index)),
            Route("/docs/{repository}/{ref}/{path:path}", self._guarded(self._below)),
        ]

    def _guarded(self, answer: Callable[[Request], _Content]) -> Callable[[Request], Response]:
        """An endpoint: blocking, so it runs on a thread."""

        def endpoint(request: Request) -> Response:
            try:
                self.access.check(request)
                return _response(request, answer(request))
            except CoafiError as error:
                return _refusal(request, error)

        return endpoint

    def _list(self, _request: Request) -> _Content:
        return _Content(list_page(self._indexes.all()))

    def _index(self, request: Request) -> _Content:
        pointer = self._pointer(request)
        selection = Selection.of(request.query_params)
        number = request.query_params.get("page", "1")
        page_number = int(number) if number.isascii() and number.isdecimal() and len(number) < 6 else 1
        if not selection.query(page_number):
            return _Content(self.objects.get(pointer.page_digest))
        return _Content(index_page(self._read_index(pointer.index_digest), selection, page_number))

    def _below(self, request: Request) -> _Content:
        pointer, path = self._pointer(request), request.path_params["path"]
        if path == INDEX_JSON and "document" not in request.query_params:
            return _Content(self.objects.get(pointer.index_digest), "application/json", _RAW_POLICY)
        file = self._tree(pointer.tree).file(path)
        if file is None or not file.is_regular:
            raise ResourceNotFoundError(
                f"there is no file {path[:200]!a} in commit {pointer.commit[:12]} of {pointer.branch}",
                remedy="look for it in the index",
            )
        return self._document(request, pointer, file)

    def _document(self, request: Request, pointer: IndexPointer, file: TreeFile) -> _Content:
        key = (file.path, file.blob)
        artifacts = self._results.artifacts(pointer.repository, [key]).get(file.path, {})
        result = self._results.latest(pointer.repository, pointer.branch, [key]).get(file.path)
        if (wanted := request.query_params.get("artifact")) is not None:
            return self._artifact(pointer, file, wanted, artifacts, result)
        # A page that was made when the same content was right says nothing of what is wrong with it now.
        as_findings = "findings" in request.query_params or not artifacts.keys() & {PAGE, IMAGE}
        if result is not None and (as_findings or result.verdict == Verdict.INVALID):
            return self._findings(pointer, file, result, has_page=PAGE in artifacts)
        for kind in (PAGE, IMAGE):
            if kind in artifacts:
                return self._artifact(pointer, file, kind, artifacts, result)
        text = "No run has looked at this content yet. It is checked when a push changes it."
        back = _up(file.path)
        return _Content(message_page(file.path, text, back=back))

    def _artifact(
        self,
        pointer: IndexPointer,
        file: TreeFile,
        kind: str,
        artifacts: Mapping[str, ArtifactResult],
        result: FileResult | None,
    ) -> _Content:
        artifact = artifacts.get(kind)
        if artifact is None:
            there = ", ".join(sorted(artifacts)) or "none"
            raise ResourceNotFoundError(
                f"{file.path[:200]!a} has no artifact {kind[:20]!a}", remedy=f"ask for one that is there: {there}"
            )
        body = self.objects.get(artifact.digest)
        if kind == PAGE:
            provenance = None
            if result is not None:
                with suppress(LedgerUnavailable):  # it may be another instance's, and away; the page is here
                    provenance = self._provenance(pointer, artifact)
            return _Content(compose(body, location=PageLocation(path=file.path), provenance=provenance))
        return _Content(body, artifact.media_type, _SVG_POLICY if "svg" in artifact.media_type else _RAW_POLICY)

    def _provenance(self, pointer: IndexPointer, artifact: ArtifactResult) -> Provenance | None:
        """Where a page came from: the run that checked and generated it, which may be that of an earlier commit."""
        entry = self.ledger.entry(artifact.entry).entry
        result = self._results.of_run(entry.workflow_id, pointer.repository, artifact.path, artifact.blob)
        if result is None:
            return None
        conclusion = entry_key(self.namespace, entry.workflow_id, CONCLUDE, EntryType.EVENT_PROCESSED)
        return Provenance(
            repository=pointer.repository,
            branch=pointer.branch,
            commit=result.commit,
            path=artifact.path,
            blob=artifact.blob,
            event=entry.event_id,
            utids=entry.utids,
            artifact=artifact.digest,
            generator=str(entry.data["generator"]),
            file_entry=result.entry,
            artifact_entry=artifact.entry,
            receipt=self.ledger.index_of(conclusion),
        )

    def _findings(self, pointer: IndexPointer, file: TreeFile, result: FileResult, *, has_page: bool) -> _Content:
        history = self._results.history(pointer.repository, file.path, HISTORY)
        back = _up(file.path)
        link = back + page_link(file.path).removeprefix("./") if has_page else ""
        if link and result.verdict == Verdict.INVALID:
            link += f"?artifact={PAGE}"
        return _Content(findings_page(file.path, result, self._report(result), history, back=back, link=link))

    def _report(self, result: FileResult) -> FileReport | None:
        try:
            reports = read_reports(self.objects, result.reports)
        except IntegrityError as error:
            log.warning("reports are lost", path=result.path, reason=str(error))
            return None
        return next((one for one in reports if one.path == result.path), None)

    def _pointer(self, request: Request) -> IndexPointer:
        """The index that a URL names."""
        try:
            repository = parse_repository_slug(request.path_params["repository"])
            ref = parse_ref_slug(request.path_params["ref"])
            if "\0" in repository + ref.name:
                raise ValueError("no name holds NUL, and PostgreSQL does not look for it")
        except ValueError:
            raise ResourceNotFoundError(
                "this address names no branch or commit", remedy="start from the list at /docs/"
            ) from None
        if ref.is_commit:
            found = self._indexes.of_commit(repository, ref.name)
        else:
            found = self._indexes.newest(repository, ref.name)
        if found is None or found.deleted:
            what = "has no documentation" if found is None else "is gone"
            raise ResourceNotFoundError(
                f"{'commit' if ref.is_commit else 'branch'} {ref.name[:200]} of {repository[:300]} {what}",
                remedy="start from the list at /docs/",
            )
        return found

    @cached_property
    def _indexes(self) -> IndexReader:
        return IndexReader(self.database)

    @cached_property
    def _results(self) -> ResultReader:
        return ResultReader(self.database)

    @cached_property
    def _tree(self) -> Callable[[str], CommitTree]:
        return lru_cache(8)(lambda root: CommitTree(root, self.objects, self.database))

    @cached_property
    def _read_index(self) -> Callable[[str], DocumentationIndex]:
        """Two at most: one of 20,000 documents takes some 50 MB."""
        return lru_cache(2)(lambda digest: decode(self.objects.get(digest)))


def _response(request: Request, content: _Content) -> Response:
    """The answer with its headers; without its body, if the client has it."""
    policy = content.policy
    if not policy:
        found = _POLICY.search(content.body, 0, 4_096)
        policy = found[1].decode("ascii", "replace") if found else "default-src 'none'"
    etag = f'"{sha256(content.body)}"'
    headers = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": f"{policy}; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Vary": "Accept, Authorization",
    }
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if content.status == HTTPStatus.OK and (etag in known or "*" in known):
        return Response(status_code=304, headers=headers)
    return Response(content.body, content.status, headers=headers, media_type=content.media_type)


def _refusal(request: Request, error: CoafiError) -> Response:
    """An error as the client wants it: a page, or a problem (RFC 9457)."""
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("documentation not served", path=request.url.path, reason=str(error))
    title = HTTPStatus(status).phrase
    detail = "this is a defect of the service or of its data; its log says more" if status == 500 else str(error)
    response: Response
    if "text/html" in request.headers.get("accept", ""):
        response = _response(request, _Content(message_page(title, detail), status=status))
    else:
        response = JSONResponse(
            {"type": "about:blank", "title": title, "status": status, "detail": detail},
            status,
            media_type="application/problem+json",
            headers={"X-Content-Type-Options": "nosniff", "Vary": "Accept, Authorization"},
        )
    response.headers["Cache-Control"] = "no-store"
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Basic realm="COAFI documentation", charset="UTF-8"'
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = "30"
    return response


def _up(path: str) -> str:
    """The way from a document to its index."""
    return "../" * path.count("/") or "./"


def _token(authorization: str) -> str:
    """The token in a header; empty when there is none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return bearer_token(authorization)
