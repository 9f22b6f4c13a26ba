"""Where Temporal and its Web UI are: as the settings say, or as the service that runs in this home does."""

from urllib.parse import quote

from coafi.errors import Unavailable
from coafi.settings import Settings
from starters.embedded import ServiceAddress


def temporal_address(settings: Settings) -> str:
    """Where Temporal is: as the settings say, or with the service that runs in this home.

    Raises:
        ValidationError: the profile that the settings name is not right.
        Unavailable: neither.
    """
    if settings.temporal_address:
        return settings.temporal_address
    if settings.temporal_profile:
        from workers.client import load_profile  # the SDK is loaded only where it is used

        return str(load_profile(settings).address)
    service = ServiceAddress.read(settings.home)
    if service is None:
        raise Unavailable(
            f"no service runs in {settings.home}",
            remedy="start it: `coafi up`; or set COAFI_TEMPORAL_ADDRESS, or COAFI_HOME",
        )
    return service.temporal


def run_url(settings: Settings, workflow_id: str, run_id: str | None, *, ui: str | None = None) -> str:
    """The run's page in the Web UI."""
    service = ServiceAddress.read(settings.home)
    base = ui or settings.temporal_ui or (service.ui if service else f"http://127.0.0.1:{settings.temporal_ui_port}")
    path = f"{base}/namespaces/{settings.temporal_namespace}/workflows/{quote(workflow_id, safe='')}"
    return f"{path}/{run_id}/timeline" if run_id else path
