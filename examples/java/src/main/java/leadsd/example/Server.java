package leadsd.example;

import com.google.gson.Gson;
import io.grpc.Attributes;
import io.grpc.CallCredentials;
import io.grpc.ChannelCredentials;
import io.grpc.CompositeChannelCredentials;
import io.grpc.EquivalentAddressGroup;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.NameResolver;
import io.grpc.NameResolverProvider;
import io.grpc.NameResolverRegistry;
import io.grpc.Status;
import io.grpc.StatusOr;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executor;

/**
 * Address and credentials of leadsd.
 *
 * @param addresses replicas, or one target: in Kubernetes dns:/// and a headless Service
 * @param caFile turns TLS on; null without
 * @param name what the certificate says, where the address does not
 * @param tokenFile holds the bearer token, which needs TLS; null without
 */
record Server(List<String> addresses, Path caFile, String name, Path tokenFile) {
  /** At least grpc.max_response_size of leadsd, whose default fits every client. */
  private static final int MAX_RESPONSE_SIZE = 64 << 20;

  static {
    NameResolverRegistry.getDefaultRegistry().register(new Replicas());
  }

  Server only(String address) {
    return new Server(List.of(address), caFile, name, tokenFile);
  }

  /** A channel that spreads its calls over all addresses. */
  ManagedChannel connect() throws IOException {
    var isTarget = addresses.get(0).contains("://");
    var target = isTarget ? addresses.get(0) : "replicas:///" + String.join(",", addresses);
    var builder = Grpc.newChannelBuilder(target, credentials());
    if (!isTarget) {
      builder.overrideAuthority(name);
    }
    return builder
        .defaultServiceConfig(serviceConfig())
        .maxInboundMessageSize(MAX_RESPONSE_SIZE)
        .build();
  }

  private ChannelCredentials credentials() throws IOException {
    if (caFile == null) {
      return InsecureChannelCredentials.create();
    }
    var tls = TlsChannelCredentials.newBuilder().trustManager(caFile.toFile()).build();
    return tokenFile == null
        ? tls
        : CompositeChannelCredentials.create(tls, new BearerToken(tokenFile));
  }

  /** Load balancing, retry policy and timeouts: the same for every language. */
  @SuppressWarnings("unchecked")
  private static Map<String, ?> serviceConfig() throws IOException {
    try (var file = Server.class.getResourceAsStream("/service_config.json");
        var reader = new InputStreamReader(file, StandardCharsets.UTF_8)) {
      return new Gson().fromJson(reader, Map.class);
    }
  }

  /** Reads the token for every call, so that a rotated token is used immediately. */
  private static final class BearerToken extends CallCredentials {
    private static final Metadata.Key<String> AUTHORIZATION =
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
    private final Path file;

    BearerToken(Path file) {
      this.file = file;
    }

    @Override
    public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
      executor.execute(
          () -> {
            try {
              var metadata = new Metadata();
              metadata.put(AUTHORIZATION, "Bearer " + Files.readString(file).strip());
              applier.apply(metadata);
            } catch (IOException e) {
              applier.fail(Status.UNAUTHENTICATED.withDescription("no token").withCause(e));
            }
          });
    }
  }

  /** Addresses that are known: grpc-java has no scheme for a list of them. */
  private static final class Replicas extends NameResolverProvider {
    @Override
    public NameResolver newNameResolver(URI target, NameResolver.Args args) {
      var addresses =
          Arrays.stream(target.getPath().substring(1).split(","))
              .map(address -> URI.create("tcp://" + address))
              .map(uri -> (SocketAddress) new InetSocketAddress(uri.getHost(), uri.getPort()))
              .map(EquivalentAddressGroup::new)
              .toList();
      return new NameResolver() {
        @Override
        public void start(Listener2 listener) {
          listener.onResult(
              ResolutionResult.newBuilder()
                  .setAddressesOrError(StatusOr.fromValue(addresses))
                  .setAttributes(Attributes.EMPTY)
                  .build());
        }

        @Override
        public String getServiceAuthority() {
          return "leadsd";
        }

        @Override
        public void shutdown() {}
      };
    }

    @Override
    public String getDefaultScheme() {
      return "replicas";
    }

    @Override
    protected boolean isAvailable() {
      return true;
    }

    @Override
    protected int priority() {
      // Below DNS, which stays what a bare name means.
      return 1;
    }
  }
}
