"""A connection to the Temporal server that the settings name, or that the service in this home runs."""

from temporalio.client import Client
from temporalio.runtime import Runtime

from coafi.errors import Unavailable
from coafi.settings import Settings
from starters.addresses import temporal_address
from workers.client import connect


async def connected(settings: Settings, address: str = "", *, runtime: Runtime | None = None) -> Client:
    """A connected client.

    Args:
        settings: say where Temporal is, unless ``address`` does.
        address: ``host:port``.
        runtime: of the SDK, where its metrics are wanted.

    Raises:
        Unavailable: no service runs, or its Temporal is out of reach.
    """
    address = address or temporal_address(settings)
    try:
        return await connect(settings, address, runtime=runtime)
    except RuntimeError as error:  # what the SDK raises for every failure to connect
        raise Unavailable(
            f"Temporal at {address} is out of reach",
            remedy="check that it runs, and COAFI_TEMPORAL_ADDRESS"
            if settings.temporal_address
            else "restart the service",
        ) from error
