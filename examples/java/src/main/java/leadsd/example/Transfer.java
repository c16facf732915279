package leadsd.example;

import io.grpc.Status;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import leadsd.v1.ExportLeadsRequest;
import leadsd.v1.Filter;
import leadsd.v1.FilterGroup;
import leadsd.v1.FilterOperator;
import leadsd.v1.ImportLeadsRequest;
import leadsd.v1.ImportLeadsResponse;
import leadsd.v1.ImportResult;
import leadsd.v1.ImportRow;
import leadsd.v1.ImportSettings;
import leadsd.v1.Lead;
import leadsd.v1.LeadCreate;
import leadsd.v1.LeadsServiceGrpc;

/** Import and export: streams of any number of leads, which are continued if they end early. */
final class Transfer {
  private static final int ATTEMPTS = 10;

  private final LeadsServiceGrpc.LeadsServiceStub imports;
  private final LeadsServiceGrpc.LeadsServiceBlockingStub exports;

  Transfer(LeadsServiceGrpc.LeadsServiceStub imports, LeadsServiceGrpc.LeadsServiceBlockingStub exports) {
    this.imports = imports;
    this.exports = exports;
  }

  /** Imports rows, one of which is invalid, and exports what was created. */
  void run(String contact, String word) throws Exception {
    var rows = new TreeMap<String, LeadCreate>();
    Map.of("row-1", "HOT", "row-2", "BOILING", "row-3", "COLD")
        .forEach(
            (key, label) ->
                rows.put(
                    key,
                    LeadCreate.newBuilder()
                        .putProperties("hs_lead_name", key + " of " + word)
                        .putProperties("hs_lead_label", label)
                        .setPrimaryContactId(contact)
                        .build()));
    var results = importRows(rows);
    check(results.keySet().equals(rows.keySet()), "results are missing", results);
    var failure = Failure.of(results.get("row-2").getError());
    check(failure.reason().equals("VALIDATION_FAILED"), "another error", failure);
    var exported = exportIds(word);
    for (var key : List.of("row-1", "row-3")) {
      check(exported.contains(results.get(key).getLead().getId()), key + " is missing", exported);
    }
    System.out.printf(
        "imported 2 of %d rows, exported %d leads%n", rows.size(), exported.size());
  }

  /**
   * Creates a lead for each row; returns one result per key. A stream that breaks or ends early is
   * continued with the rows that have no result: with the same import id, no lead is created twice.
   */
  private Map<String, ImportResult> importRows(Map<String, LeadCreate> rows) throws Exception {
    var settings = ImportSettings.newBuilder().setImportId(UUID.randomUUID().toString()).build();
    var results = new ConcurrentHashMap<String, ImportResult>();
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
      var requests = new ArrayList<ImportLeadsRequest>();
      requests.add(ImportLeadsRequest.newBuilder().setSettings(settings).build());
      rows.forEach(
          (key, lead) -> {
            if (!results.containsKey(key)) {
              var row = ImportRow.newBuilder().setKey(key).setCreate(lead);
              requests.add(ImportLeadsRequest.newBuilder().setRow(row).build());
            }
          });
      var stream = new ImportStream(requests.iterator(), results);
      imports.importLeads(stream);
      if (stream.complete.get()) {
        return results;
      }
      Thread.sleep(1000);
    }
    throw new IllegalStateException("the import does not end");
  }

  /**
   * Ids of all leads with a word in their name. The token of each message continues a stream that
   * breaks or ends early, at any replica.
   */
  private List<String> exportIds(String word) throws InterruptedException {
    var filter =
        Filter.newBuilder()
            .setPropertyName("hs_lead_name")
            .setOperator(FilterOperator.FILTER_OPERATOR_CONTAINS_TOKEN)
            .setValue(word);
    var request =
        ExportLeadsRequest.newBuilder()
            .addFilterGroups(FilterGroup.newBuilder().addFilters(filter))
            .addProperties("hs_lead_name");
    var ids = new ArrayList<String>();
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
      try {
        var messages = exports.exportLeads(request.build());
        while (messages.hasNext()) {
          var message = messages.next();
          message.getLeadsList().stream().map(Lead::getId).forEach(ids::add);
          request.setResumeToken(message.getResumeToken());
          if (message.getComplete()) {
            return ids;
          }
        }
      } catch (io.grpc.StatusRuntimeException error) {
        if (error.getStatus().getCode() != Status.Code.UNAVAILABLE) {
          throw error;
        }
      }
      Thread.sleep(1000);
    }
    throw new IllegalStateException("the export does not end");
  }

  private static void check(boolean holds, String otherwise, Object seen) {
    if (!holds) {
      throw new IllegalStateException(otherwise + ": " + seen);
    }
  }

  /** One stream. Sends rows while the connection has room for them, and keeps the results. */
  private static final class ImportStream
      implements ClientResponseObserver<ImportLeadsRequest, ImportLeadsResponse> {
    private final Iterator<ImportLeadsRequest> requests;
    private final Map<String, ImportResult> results;
    private boolean isSummed;
    private boolean isSent;

    /** True if all rows have results, false if the stream has ended before. */
    final CompletableFuture<Boolean> complete = new CompletableFuture<>();

    ImportStream(Iterator<ImportLeadsRequest> requests, Map<String, ImportResult> results) {
      this.requests = requests;
      this.results = results;
    }

    @Override
    public void beforeStart(ClientCallStreamObserver<ImportLeadsRequest> stream) {
      stream.setOnReadyHandler(
          () -> {
            while (stream.isReady() && requests.hasNext()) {
              stream.onNext(requests.next());
            }
            if (!requests.hasNext() && !isSent) {
              isSent = true;
              stream.onCompleted();
            }
          });
    }

    @Override
    public void onNext(ImportLeadsResponse message) {
      if (message.hasResult()) {
        results.put(message.getResult().getKey(), message.getResult());
      } else {
        isSummed = message.getSummary().getComplete();
      }
    }

    @Override
    public void onError(Throwable error) {
      if (Status.fromThrowable(error).getCode() == Status.Code.UNAVAILABLE) {
        complete.complete(false);
      } else {
        complete.completeExceptionally(error);
      }
    }

    @Override
    public void onCompleted() {
      complete.complete(isSummed);
    }
  }
}
