"""Reports over HTTP: ``/reports/`` lists them, ``/reports/<entry>/report.html`` is one, ``report.json`` its data.

Who may read the documentation may read reports of it: see :class:`starters.docs_pages.DocsAccess`.
"""

from dataclasses import dataclass
from html import escape

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from coafi.artifacts.page import page
from coafi.database import Database
from coafi.errors import AuthorizationError, CoafiError, PolicyDenied, ResourceNotFoundError, Unavailable
from coafi.names import TaskName
from coafi.objects import ObjectStore
from coafi.tasks.results import TaskResults
from starters.answers import problem
from starters.docs_pages import DocsAccess

SHOWN = 200
"""Reports that the list shows."""

_TYPES = {"report.html": "text/html; charset=utf-8", "report.json": "application/json"}
_HEADERS = {
    "Cache-Control": "private, no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class ReportPages:
    """The routes below ``/reports/``."""

    database: Database
    objects: ObjectStore
    access: DocsAccess

    def routes(self) -> list[Route]:
        """The routes, for the gateway."""
        return [
            Route("/reports/", self._list),
            Route("/reports/{entry:int}/{name}", self._report),
        ]

    async def _list(self, request: Request) -> Response:
        return await self._answered(request, None, "")

    async def _report(self, request: Request) -> Response:
        return await self._answered(request, request.path_params["entry"], request.path_params["name"])

    async def _answered(self, request: Request, entry: int | None, name: str) -> Response:
        try:
            self.access.check(request)
            return await run_in_threadpool(self._content, entry, name)
        except AuthorizationError as error:
            return problem(401, str(error), headers={"WWW-Authenticate": 'Basic realm="documentation"'})
        except PolicyDenied as error:
            return problem(403, str(error))
        except ResourceNotFoundError as error:
            return problem(404, str(error))
        except Unavailable as error:
            return problem(503, str(error), retry_after=30)
        except CoafiError as error:
            return problem(500, str(error))

    def _content(self, entry: int | None, name: str) -> Response:
        results = TaskResults(self.database)
        if entry is None:
            found = results.last(TaskName.COMPLIANCE_REPORT, SHOWN)
            rows = "".join(
                f'<tr><td><a href="./{one.entry}/report.html">{escape(one.due)}</a></td>'
                f'<td>{escape(one.summary)}</td><td><a href="./{one.entry}/report.json">JSON</a></td></tr>'
                for one in found
            )
            body = f"<table><tbody>{rows}</tbody></table>" if rows else '<p class="note">There is no report yet.</p>'
            made = page(title="Compliance reports", language="en", kind="Reports", body=body)
            return Response(made, media_type=_TYPES["report.html"], headers=_HEADERS)
        result = results.at(TaskName.COMPLIANCE_REPORT, entry)
        digest = result.artifact(name) if result is not None and name in _TYPES else None
        if digest is None:
            raise ResourceNotFoundError(f"there is no report {entry}/{name}", remedy="see /reports/")
        return Response(self.objects.get(digest), media_type=_TYPES[name], headers={**_HEADERS, "ETag": f'"{digest}"'})
