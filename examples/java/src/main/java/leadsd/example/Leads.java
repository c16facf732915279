package leadsd.example;

import com.google.protobuf.util.Durations;
import com.google.protobuf.util.Timestamps;
import leadsd.v1.AssociateLeadRequest;
import leadsd.v1.AssociatedObject;
import leadsd.v1.BatchCreateLeadsRequest;
import leadsd.v1.ContactReference;
import leadsd.v1.CreateLeadRequest;
import leadsd.v1.Filter;
import leadsd.v1.FilterGroup;
import leadsd.v1.FilterOperator;
import leadsd.v1.GetLeadRequest;
import leadsd.v1.GetQuotaRequest;
import leadsd.v1.LeadCreate;
import leadsd.v1.LeadsServiceGrpc;
import leadsd.v1.ListLeadAssociationsRequest;
import leadsd.v1.ListLeadsRequest;
import leadsd.v1.QuotaCaller;
import leadsd.v1.QuotaServiceGrpc;
import leadsd.v1.SearchLeadsRequest;
import leadsd.v1.SearchLeadsResponse;
import leadsd.v1.Sort;
import leadsd.v1.SortDirection;
import leadsd.v1.WatchQuotaRequest;
import io.grpc.ClientInterceptor;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.MetadataUtils;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/**
 * Example client for leadsd in Java. It prints its results and fails if they are unexpected.
 */
public final class Leads {
  private final Server server;
  private final String contact;
  // Address of the contact.
  private final String email;
  // Address of an owner.
  private final String owner;
  // Unique word in the name of every lead of this run.
  private final String word = "java" + UUID.randomUUID().toString().replace("-", "");
  private final LeadsServiceGrpc.LeadsServiceBlockingStub anonymous;
  private final LeadsServiceGrpc.LeadsServiceBlockingStub leads;
  private final LeadsServiceGrpc.LeadsServiceFutureStub pending;
  private final QuotaServiceGrpc.QuotaServiceBlockingStub quota;
  private final Transfer transfer;

  private Leads(Server server, ManagedChannel channel, Map<String, String> given) {
    this.server = server;
    contact = given.get("--contact");
    email = given.get("--email");
    owner = given.get("--owner");
    // Metadata of every call: portal, priority and caller.
    var who =
        with(
            Map.of(
                "leadsd-portal", "default",
                "leadsd-priority", "interactive",
                "leadsd-caller", word));
    anonymous = LeadsServiceGrpc.newBlockingStub(channel);
    leads = anonymous.withInterceptors(who);
    pending = LeadsServiceGrpc.newFutureStub(channel).withInterceptors(who);
    quota = QuotaServiceGrpc.newBlockingStub(channel).withInterceptors(who);
    transfer = new Transfer(LeadsServiceGrpc.newStub(channel).withInterceptors(who), leads);
  }

  /** Creates a lead once with two calls, and reads it. */
  private void create() {
    var header = new AtomicReference<Metadata>();
    var trailer = new AtomicReference<Metadata>();
    var request =
        CreateLeadRequest.newBuilder()
            .putProperties("hs_lead_name", "One of " + word)
            .putProperties("hs_lead_label", "HOT")
            .setPrimaryContactId(contact)
            .setRequestId(UUID.randomUUID().toString())
            .build();
    var first =
        leads
            .withInterceptors(MetadataUtils.newCaptureMetadataInterceptor(header, trailer))
            .createLead(request)
            .getLead();
    // A retry, as after a timeout: the same request id returns the same lead.
    var again = leads.createLead(request).getLead();
    check(again.getId().equals(first.getId()), "the repeat made another lead", again);
    var cost = header.get().get(key("leadsd-quota-cost"));
    System.out.printf("created %s for %s HubSpot calls%n", first.getId(), cost);

    var lead =
        leads
            .getLead(
                GetLeadRequest.newBuilder()
                    .setId(first.getId())
                    .addProperties("hs_lead_name")
                    .addProperties("hs_lead_label")
                    .addAssociations("contacts")
                    .build())
            .getLead();
    var contacts = lead.getAssociationsMap().get("contacts").getObjectsList();
    check("HOT".equals(lead.getPropertiesMap().get("hs_lead_label")), "another label", lead);
    check(contacts.stream().map(AssociatedObject::getId).anyMatch(contact::equals), "alone", lead);
    System.out.printf(
        "read '%s' of %s%n",
        lead.getPropertiesMap().get("hs_lead_name"), Timestamps.toString(lead.getCreateTime()));
  }

  /** Writes and reads a lead by labels and e-mail addresses, without ids. */
  private void names() throws Exception {
    var request =
        CreateLeadRequest.newBuilder()
            .putProperties("hs_lead_name", "By names of " + word)
            .putLabels("hs_pipeline_stage", "conected")
            .putLabels("hubspot_owner_id", owner)
            .setContact(ContactReference.newBuilder().setEmail(email))
            .setValidateOnly(true);
    // Validation writes nothing. A violation names the field and the nearest label.
    var misspelt = request.build();
    var failure =
        fails(
            Status.Code.INVALID_ARGUMENT, "INVALID_REQUEST", () -> leads.createLead(misspelt));
    var fields = failure.fields();
    check(
        fields.size() == 1
            && fields.get(0).getField().equals("labels[\"hs_pipeline_stage\"]")
            && fields.get(0).getDescription().contains("connected"),
        "other fields",
        failure);
    request.putLabels("hs_pipeline_stage", "connected");
    var valid = leads.createLead(request.build());
    check(!valid.hasLead(), "the validation wrote a lead", valid);
    request.setValidateOnly(false).setRequestId(UUID.randomUUID().toString());
    var id = leads.createLead(request.build()).getLead().getId();

    var lead =
        leads
            .getLead(
                GetLeadRequest.newBuilder()
                    .setId(id)
                    .addProperties("hs_pipeline_stage")
                    .addProperties("hubspot_owner_id")
                    .setDisplay(true)
                    .build())
            .getLead();
    var expected = Map.of("hs_pipeline_stage", "connected", "hubspot_owner_id", owner);
    check(lead.getLabelsMap().equals(expected), "other labels", lead);
    // The contact that the address named is the primary one. Associating it again has no effect.
    leads.associateLead(
        AssociateLeadRequest.newBuilder()
            .setLeadId(id)
            .setObjectType("contacts")
            .setToId(contact)
            .addTypeLabels("Primary")
            .build());
    var contacts =
        leads
            .listLeadAssociations(
                ListLeadAssociationsRequest.newBuilder()
                    .setLeadId(id)
                    .setObjectType("contacts")
                    .build())
            .getObjectsList();
    check(
        contacts.stream()
            .anyMatch(to -> to.getId().equals(contact) && to.getLabel().equals("Primary")),
        "another contact",
        contacts);
    System.out.printf("created %s by names: %s%n", id, lead.getLabelsMap());
  }

  /** Creates many: one result per input, in input order. */
  private void batch() {
    var labels = List.of("HOT", "WARM", "BOILING", "COLD", "HOT", "WARM");
    var request = BatchCreateLeadsRequest.newBuilder().setRequestId(UUID.randomUUID().toString());
    for (int number = 0; number < labels.size(); number++) {
      request.addInputs(
          LeadCreate.newBuilder()
              .putProperties("hs_lead_name", "Batch %d of %s".formatted(number, word))
              .putProperties("hs_lead_label", labels.get(number))
              .setPrimaryContactId(contact));
    }
    var results = leads.batchCreateLeads(request.build()).getResultsList();
    check(results.size() == labels.size(), "results missing", results);
    for (int number = 0; number < labels.size(); number++) {
      var result = results.get(number);
      var isBad = labels.get(number).equals("BOILING");
      check(result.hasLead() != isBad, "input " + number, result);
      if (isBad) {
        var failure = Failure.of(result.getError());
        check(failure.reason().equals("VALIDATION_FAILED"), "another reason", failure);
        System.out.printf("input %d failed alone: %s%n", number, failure);
      }
    }
  }

  /** Finds the leads of the batch page by page. */
  private void search() {
    var filters =
        FilterGroup.newBuilder()
            .addFilters(
                Filter.newBuilder()
                    .setPropertyName("hs_lead_name")
                    .setOperator(FilterOperator.FILTER_OPERATOR_CONTAINS_TOKEN)
                    .setValue(word))
            .addFilters(
                Filter.newBuilder()
                    .setPropertyName("hs_lead_label")
                    .setOperator(FilterOperator.FILTER_OPERATOR_IN)
                    .addValues("WARM")
                    .addValues("COLD"));
    var request =
        SearchLeadsRequest.newBuilder()
            .addFilterGroups(filters)
            .addSorts(
                Sort.newBuilder()
                    .setPropertyName("hs_lead_name")
                    .setDirection(SortDirection.SORT_DIRECTION_DESCENDING))
            .addProperties("hs_lead_name")
            .setPageSize(2);
    var names = new ArrayList<String>();
    int pages = 0;
    SearchLeadsResponse page;
    do {
      page = leads.searchLeads(request.build());
      check(page.getTotal() == 3, "another number of leads", page);
      pages++;
      page.getLeadsList().forEach(lead -> names.add(lead.getPropertiesMap().get("hs_lead_name")));
      request.setPageToken(page.getNextPageToken());
    } while (!page.getNextPageToken().isEmpty());
    var expected = Stream.of(5, 3, 1).map(number -> "Batch %d of %s".formatted(number, word));
    check(names.equals(expected.toList()), "other leads", names);
    check(pages == 2, "another number of pages", pages);
    System.out.printf("found %d leads on %d pages%n", names.size(), pages);
  }

  /** Selects portal and priority of single calls. */
  private void portals() throws Exception {
    var one = ListLeadsRequest.newBuilder().setPageSize(1).build();
    anonymous.withInterceptors(with(Map.of("leadsd-priority", "bulk"))).listLeads(one);
    var nowhere = anonymous.withInterceptors(with(Map.of("leadsd-portal", "nowhere")));
    if (server.tokenFile() == null) {
      fails(Status.Code.INVALID_ARGUMENT, "UNKNOWN_PORTAL", () -> nowhere.listLeads(one));
    } else {
      // Errors for authenticated callers do not list the portals.
      fails(Status.Code.PERMISSION_DENIED, "CALLER_FORBIDDEN", () -> nowhere.listLeads(one));
    }
  }

  /** Reads the error details of a failed call. */
  private void errors() throws Exception {
    var unknown = GetLeadRequest.newBuilder().setId("999999999").build();
    fails(Status.Code.NOT_FOUND, "LEAD_NOT_FOUND", () -> leads.getLead(unknown));
    var invalid =
        CreateLeadRequest.newBuilder().putProperties("hs_lead_name", "Invalid of " + word).build();
    var failure =
        fails(
            Status.Code.INVALID_ARGUMENT, "INVALID_REQUEST", () -> leads.createLead(invalid));
    var fields = failure.fields();
    check(
        fields.size() == 1 && fields.get(0).getField().equals("primary_contact_id"),
        "other fields",
        failure);
  }

  /**
   * Sends more searches than HubSpot allows per second: calls without a permit before their
   * deadline are rejected immediately, with a retry delay.
   */
  private void limits() throws Exception {
    var hurried =
        IntStream.range(0, 30)
            .mapToObj(number -> SearchLeadsRequest.newBuilder().setQuery(word + number).build())
            .map(pending.withDeadlineAfter(500, TimeUnit.MILLISECONDS)::searchLeads)
            .toList();
    int refused = 0;
    for (var answer : hurried) {
      try {
        answer.get();
      } catch (ExecutionException e) {
        var failure = Failure.of(e.getCause());
        // A call may also exceed its deadline.
        if (failure.code() != Status.Code.DEADLINE_EXCEEDED) {
          check(failure.reason().equals("RATE_LIMITED"), "another reason", failure);
          check(failure.retryAfter() != null, "no time to wait", failure);
          refused++;
        }
      }
    }
    check(refused > 0, "no search was refused", hurried);
    // A retry after the stated delay succeeds.
    var patient = SearchLeadsRequest.newBuilder().setQuery(word).build();
    Failure.retry(() -> leads.searchLeads(patient));
    System.out.printf(
        "%d of %d hurried searches refused, the patient one answered%n", refused, hurried.size());
  }

  /** Watches the quota until the deadline. */
  private void deadline() {
    var request = WatchQuotaRequest.newBuilder().setInterval(Durations.fromMillis(100)).build();
    int seen = 0;
    try {
      var answers = quota.withDeadlineAfter(500, TimeUnit.MILLISECONDS).watchQuota(request);
      while (answers.hasNext()) {
        var answer = answers.next();
        check(answer.getQuota().getBucketsCount() == 3, "other limits than HubSpot's", answer);
        seen++;
      }
      throw new IllegalStateException("the stream ended before its deadline");
    } catch (StatusRuntimeException e) {
      check(e.getStatus().getCode() == Status.Code.DEADLINE_EXCEEDED, "another end", e);
    }
    check(seen > 1, "the quota was not seen", seen);
    System.out.printf("saw the quota %d times until the deadline%n", seen);
  }

  /** Asserts that each address served calls of one channel. */
  private void balancing() throws Exception {
    if (server.addresses().size() < 2) {
      return;
    }
    for (int number = 0; number < 10 * server.addresses().size(); number++) {
      leads.listLeads(ListLeadsRequest.newBuilder().setPageSize(1).build());
    }
    for (var address : server.addresses()) {
      var channel = server.only(address).connect();
      try {
        var stub = QuotaServiceGrpc.newBlockingStub(channel);
        var burst = stub.getQuota(GetQuotaRequest.getDefaultInstance()).getQuota().getBuckets(0);
        var used = burst.getCallersList().stream().mapToDouble(QuotaCaller::getUsed).sum();
        check(used >= 5, address + " answered too few calls", burst);
        System.out.printf("%s answered %.0f calls%n", address, used);
      } finally {
        channel.shutdownNow();
      }
    }
  }

  /** Makes a call that must fail with this error. */
  private static Failure fails(Status.Code code, String reason, Callable<?> call)
      throws Exception {
    try {
      throw new IllegalStateException(call.call() + " instead of " + reason);
    } catch (StatusRuntimeException e) {
      var failure = Failure.of(e);
      check(failure.code() == code && failure.reason().equals(reason), "another end", failure);
      System.out.println("as it should: " + failure);
      return failure;
    }
  }

  private static void check(boolean holds, String otherwise, Object seen) {
    if (!holds) {
      throw new IllegalStateException(otherwise + ": " + seen);
    }
  }

  private static ClientInterceptor with(Map<String, String> values) {
    var metadata = new Metadata();
    values.forEach((name, value) -> metadata.put(key(name), value));
    return MetadataUtils.newAttachHeadersInterceptor(metadata);
  }

  private static Metadata.Key<String> key(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }

  /** Options come as {@code --name value}; README.md in the folder above says which. */
  public static void main(String[] arguments) throws Exception {
    var given = new HashMap<>(Map.of(
        "--address", "127.0.0.1:50051", "--contact", "101", "--server-name", "localhost",
        "--email", "ada@example.com", "--owner", "sales@example.com"));
    for (int at = 0; at + 1 < arguments.length; at += 2) {
      given.put(arguments[at], arguments[at + 1]);
    }
    var server =
        new Server(
            List.of(given.get("--address").split(",")),
            given.containsKey("--ca-file") ? Path.of(given.get("--ca-file")) : null,
            given.get("--server-name"),
            given.containsKey("--token-file") ? Path.of(given.get("--token-file")) : null);
    var channel = server.connect();
    try {
      var walk = new Leads(server, channel, given);
      walk.create();
      walk.names();
      walk.batch();
      walk.search();
      walk.transfer.run(walk.contact, walk.word);
      walk.portals();
      walk.errors();
      walk.limits();
      walk.deadline();
      walk.balancing();
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
    System.out.println("java: all as expected");
  }
}
