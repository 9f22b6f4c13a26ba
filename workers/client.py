"""The client of Temporal, as workers and starters share it."""

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import GrpcCompression

from coafi.settings import Settings


async def connect(settings: Settings, address: str, *, lazy: bool = False) -> Client:
    """A client of Temporal.

    Args:
        settings: name the namespace.
        address: ``host:port``.
        lazy: connect at the first call instead of now.
    """
    return await Client.connect(
        address,
        namespace=settings.temporal_namespace,
        data_converter=pydantic_data_converter,
        grpc_compression=GrpcCompression.NONE,  # it costs CPU, and helps only on slow networks
        lazy=lazy,
    )
