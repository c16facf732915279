"""Connection to leadsd: one or several addresses, plain text or TLS with a bearer token."""

from dataclasses import dataclass, replace
from pathlib import Path

import grpc

# Load balancing, retry policy and timeouts: the same for every language.
SERVICE_CONFIG = (Path(__file__).parent.parent / "service_config.json").read_text()

# At least grpc.max_response_size of leadsd, whose default fits every client.
MAX_RESPONSE_SIZE = 64 << 20


@dataclass(frozen=True)
class Server:
    """Address and credentials of leadsd."""

    # Replicas, or one target: in Kubernetes dns:/// and a headless Service.
    addresses: tuple[str, ...]
    # CA file; enables TLS.
    ca_file: Path | None = None
    # Host name in the certificate, if it differs from the address.
    name: str = "localhost"
    # File with the bearer token; requires TLS.
    token_file: Path | None = None

    def only(self, address: str) -> "Server":
        return replace(self, addresses=(address,))

    def connect(self) -> grpc.Channel:
        """A channel that spreads its calls over all addresses."""
        options = [
            ("grpc.service_config", SERVICE_CONFIG),
            ("grpc.max_receive_message_length", MAX_RESPONSE_SIZE),
        ]
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
    """Reads the token for every call, so that a rotated token is used immediately."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, context, callback) -> None:
        try:
            token = self.file.read_text().strip()
        except OSError as error:
            callback((), error)
        else:
            callback((("authorization", f"Bearer {token}"),), None)
