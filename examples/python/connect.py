"""How to reach leadsd: one address or several, in the clear or with TLS and a bearer token."""

from dataclasses import dataclass, replace
from pathlib import Path

import grpc

# How to balance, what to repeat and how long to wait: the same for every language.
SERVICE_CONFIG = (Path(__file__).parent.parent / "service_config.json").read_text()


@dataclass(frozen=True)
class Server:
    """Where leadsd is and how to get in."""

    # Replicas, or one target: in Kubernetes dns:/// and a headless Service.
    addresses: tuple[str, ...]
    # Turns TLS on.
    ca_file: Path | None = None
    # What the certificate says, where the address does not.
    name: str = "localhost"
    # Holds the bearer token. It needs TLS.
    token_file: Path | None = None

    def only(self, address: str) -> "Server":
        return replace(self, addresses=(address,))

    def connect(self) -> grpc.Channel:
        """A channel that spreads its calls over all addresses."""
        options = [("grpc.service_config", SERVICE_CONFIG)]
        target = self.addresses[0]
        if "://" not in target:
            target = "ipv4:" + ",".join(self.addresses)
            options += [
                ("grpc.default_authority", self.name),
                ("grpc.ssl_target_name_override", self.name),
            ]
        if self.ca_file is None:
            return grpc.insecure_channel(target, options)
        credentials = grpc.ssl_channel_credentials(self.ca_file.read_bytes())
        if self.token_file is not None:
            credentials = grpc.composite_channel_credentials(
                credentials, grpc.metadata_call_credentials(BearerToken(self.token_file))
            )
        return grpc.secure_channel(target, credentials, options)


class BearerToken(grpc.AuthMetadataPlugin):
    """Reads the token for every call, so that a new one is used as soon as it is there."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, context, callback) -> None:
        try:
            token = self.file.read_text().strip()
        except OSError as error:
            callback((), error)
        else:
            callback((("authorization", f"Bearer {token}"),), None)
