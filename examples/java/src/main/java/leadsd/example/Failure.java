package leadsd.example;

import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.Durations;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ThreadLocalRandom;

/**
 * Error details of a failed call or input.
 *
 * @param reason one of docs/ERRORS.md; empty if the call did not reach leadsd
 * @param retryAfter how long to wait, where waiting helps; else null
 */
record Failure(
    Status.Code code,
    String message,
    String reason,
    Map<String, String> metadata,
    List<BadRequest.FieldViolation> fields,
    Duration retryAfter) {

  private static final int ATTEMPTS = 5;

  /** Of a call. Errors that the gRPC library generates have no details. */
  static Failure of(Throwable error) {
    return of(StatusProto.fromStatusAndTrailers(
        Status.fromThrowable(error), Status.trailersFromThrowable(error)));
  }

  /** Of an input of a batch. */
  static Failure of(com.google.rpc.Status status) {
    var info = ErrorInfo.getDefaultInstance();
    var request = BadRequest.getDefaultInstance();
    Duration retryAfter = null;
    try {
      for (var detail : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          info = detail.unpack(ErrorInfo.class);
        } else if (detail.is(BadRequest.class)) {
          request = detail.unpack(BadRequest.class);
        } else if (detail.is(RetryInfo.class)) {
          var delay = detail.unpack(RetryInfo.class).getRetryDelay();
          retryAfter = Duration.ofNanos(Durations.toNanos(delay));
        }
      }
    } catch (InvalidProtocolBufferException e) {
      throw new IllegalStateException("a detail that is not what it says", e);
    }
    return new Failure(
        Status.fromCodeValue(status.getCode()).getCode(),
        status.getMessage(),
        info.getReason(),
        info.getMetadataMap(),
        request.getFieldViolationsList(),
        retryAfter);
  }

  /**
   * Retries a call that is safe to repeat: a read, an update, an upsert, an archive, or a create
   * whose repeat leadsd recognizes ("Safe creates" in docs/USING.md). Waits for the stated delay, or
   * else with exponential backoff.
   */
  static <T> T retry(Callable<T> call) throws Exception {
    var pause = Duration.ofMillis(200);
    for (int attempt = 1; ; attempt++) {
      try {
        return call.call();
      } catch (StatusRuntimeException e) {
        var failure = of(e);
        var passes =
            failure.code == Status.Code.UNAVAILABLE || failure.reason.equals("OVERLOADED");
        if (attempt == ATTEMPTS || !(passes || failure.retryAfter != null)) {
          throw e;
        }
        var wait = failure.retryAfter != null ? failure.retryAfter : pause;
        Thread.sleep(wait.toMillis() + ThreadLocalRandom.current().nextLong(pause.toMillis()));
        pause = pause.multipliedBy(2);
      }
    }
  }

  @Override
  public String toString() {
    var text = new StringBuilder("%s %s: %s".formatted(code, reason, message));
    fields.forEach(v -> text.append(" [%s %s]".formatted(v.getField(), v.getDescription())));
    if (metadata.containsKey("correlationId")) {
      // HubSpot's support asks for this id.
      text.append(" (HubSpot's id: %s)".formatted(metadata.get("correlationId")));
    }
    return text.toString();
  }
}
