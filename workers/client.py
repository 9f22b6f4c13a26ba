"""The client of Temporal, as workers and starters share it."""

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfigProfile
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import GrpcCompression

from coafi.errors import ValidationError
from coafi.settings import Settings


def load_profile(settings: Settings) -> ClientConfigProfile:
    """How Temporal is reached, as the SDK's own configuration says: ``temporal.toml``, and ``TEMPORAL_…``.

    Raises:
        ValidationError: there is no such profile, it is not right, or it is of another namespace than the settings.
    """
    name = settings.temporal_profile
    try:
        profile = ClientConfigProfile.load(name, config_file_strict=True)
    except RuntimeError as error:  # what the SDK raises for all that is wrong with it
        raise ValidationError(
            f"the profile {name} of Temporal cannot be used: {error}",
            remedy="see TEMPORAL_CONFIG_FILE, and COAFI_TEMPORAL_PROFILE in docs/settings.md",
        ) from None
    if not profile.address:
        raise ValidationError(
            f"the profile {name} of Temporal names no address", remedy="add one to it, or set TEMPORAL_ADDRESS"
        )
    if profile.namespace not in (None, settings.temporal_namespace):
        # Keys of ledger entries hold the namespace, so that nothing but our own settings may change it.
        raise ValidationError(
            f"the profile {name} is of the namespace {profile.namespace}, and the settings say"
            f" {settings.temporal_namespace}",
            remedy=f"set COAFI_TEMPORAL_NAMESPACE={profile.namespace}",
        )
    return profile


def measured_runtime(port: int) -> Runtime:
    """A runtime of the SDK that serves its metrics on ``port``, under names and in units as Prometheus wants them.

    Raises:
        ValidationError: the port is taken.
    """
    exporter = PrometheusConfig(
        bind_address=f"0.0.0.0:{port}",
        counters_total_suffix=True,
        unit_suffix=True,
        durations_as_seconds=True,
    )
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=exporter))
    except ValueError as error:  # what the SDK raises for every failure to listen
        raise ValidationError(
            f"metrics of Temporal's SDK cannot be served on port {port}: {error}",
            remedy="set COAFI_TEMPORAL_METRICS_PORT to a free port",
        ) from None


async def connect(settings: Settings, address: str, *, lazy: bool = False, runtime: Runtime | None = None) -> Client:
    """A client of Temporal.

    Args:
        settings: name the namespace, and the profile with TLS and API key, if there is one.
        address: ``host:port``.
        lazy: connect at the first call instead of now.
        runtime: of the SDK, where its metrics are wanted.

    Raises:
        ValidationError: the profile is not right.
    """
    options = load_profile(settings).to_client_connect_config() if settings.temporal_profile else {}
    return await Client.connect(
        address,
        namespace=settings.temporal_namespace,
        data_converter=pydantic_data_converter,
        grpc_compression=GrpcCompression.NONE,  # it costs CPU, and helps only on slow networks
        lazy=lazy,
        runtime=runtime,
        tls=options.get("tls", False),
        api_key=options.get("api_key"),
        rpc_metadata=options.get("rpc_metadata", {}),
    )
