// Example client for leadsd in Go. It prints its results and fails if they are unexpected.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	leadsdv1 "leadsd/examples/go/gen/leadsd/v1"
)

//go:generate buf generate
//go:generate cp ../service_config.json .

// walk is a client and its state.
type walk struct {
	leads   leadsdv1.LeadsServiceClient
	quota   leadsdv1.QuotaServiceClient
	contact string
	// email is the address of the contact, and owner that of an owner.
	email, owner string
	// word is unique to this run and part of the name of every lead.
	word string
}

func main() {
	log.SetFlags(0)
	var server Server
	address := flag.String("address", "127.0.0.1:50051", "one address, a dns:/// target, or several addresses with commas")
	contact := flag.String("contact", "101", "record id of a contact that leads can be about")
	email := flag.String("email", "ada@example.com", "address of that contact")
	owner := flag.String("owner", "sales@example.com", "address of an owner")
	flag.StringVar(&server.CAFile, "ca-file", "", "PEM file of the CA of the service; turns TLS on")
	flag.StringVar(&server.Name, "server-name", "localhost", "name in the certificate, when several addresses are given")
	flag.StringVar(&server.TokenFile, "token-file", "", "file with the bearer token, read for every call")
	flag.Parse()
	server.Addresses = strings.Split(*address, ",")

	w := &walk{contact: *contact, email: *email, owner: *owner}
	if err := w.run(server); err != nil {
		log.Fatalf("go: %v", err)
	}
	fmt.Println("go: all as expected")
}

func (w *walk) run(server Server) error {
	connection, err := server.Connect()
	if err != nil {
		return err
	}
	defer connection.Close()
	w.leads = leadsdv1.NewLeadsServiceClient(connection)
	w.quota = leadsdv1.NewQuotaServiceClient(connection)
	w.word = "go" + strings.ToLower(rand.Text())
	// Metadata of every call: portal, priority and caller.
	ctx := metadata.AppendToOutgoingContext(context.Background(),
		"leadsd-portal", "default",
		"leadsd-priority", "interactive",
		"leadsd-caller", w.word)

	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{"create", w.create},
		{"names", w.names},
		{"batch", w.batch},
		{"search", w.search},
		{"transfer", w.transfer},
		{"portals and priorities", func(ctx context.Context) error { return w.portals(ctx, server) }},
		{"errors", w.errors},
		{"limits", w.limits},
		{"deadline", w.deadline},
		{"balancing", func(ctx context.Context) error { return w.balancing(ctx, server) }},
	}
	for _, step := range steps {
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// create creates a lead once with two calls, and reads it.
func (w *walk) create(ctx context.Context) error {
	request := &leadsdv1.CreateLeadRequest{
		Properties:       map[string]string{"hs_lead_name": "One of " + w.word, "hs_lead_label": "HOT"},
		PrimaryContactId: w.contact,
		RequestId:        rand.Text(),
	}
	var header metadata.MD
	first, err := w.leads.CreateLead(ctx, request, grpc.Header(&header))
	if err != nil {
		return err
	}
	// A retry, as after a timeout: the same request id returns the same lead.
	again, err := w.leads.CreateLead(ctx, request)
	if err != nil {
		return err
	}
	id := first.GetLead().GetId()
	if again.GetLead().GetId() != id {
		return fmt.Errorf("the repeat made another lead: %s and %s", id, again.GetLead().GetId())
	}
	fmt.Printf("created %s for %v HubSpot calls\n", id, header.Get("leadsd-quota-cost"))

	read, err := w.leads.GetLead(ctx, &leadsdv1.GetLeadRequest{
		Id:           id,
		Properties:   []string{"hs_lead_name", "hs_lead_label"},
		Associations: []string{"contacts"},
	})
	if err != nil {
		return err
	}
	lead := read.GetLead()
	contacts := lead.GetAssociations()["contacts"].GetObjects()
	isOurs := func(object *leadsdv1.AssociatedObject) bool { return object.GetId() == w.contact }
	if lead.GetProperties()["hs_lead_label"] != "HOT" || !slices.ContainsFunc(contacts, isOurs) {
		return fmt.Errorf("read something else: %v", lead)
	}
	fmt.Printf("read %q of %s\n", lead.GetProperties()["hs_lead_name"], lead.GetCreateTime().AsTime())
	return nil
}

// names writes and reads a lead by labels and e-mail addresses, without ids.
func (w *walk) names(ctx context.Context) error {
	const stage, owner = "hs_pipeline_stage", "hubspot_owner_id"
	request := &leadsdv1.CreateLeadRequest{
		Properties:   map[string]string{"hs_lead_name": "By names of " + w.word},
		Labels:       map[string]string{stage: "conected", owner: w.owner},
		Contact:      &leadsdv1.ContactReference{Key: &leadsdv1.ContactReference_Email{Email: w.email}},
		ValidateOnly: true,
	}
	// Validation writes nothing. A violation names the field and the nearest label.
	_, err := w.leads.CreateLead(ctx, request)
	if err := expect(err, codes.InvalidArgument, "INVALID_REQUEST"); err != nil {
		return err
	}
	fields := FailureOf(err).Fields
	if len(fields) != 1 || fields[0].GetField() != `labels["hs_pipeline_stage"]` ||
		!strings.Contains(fields[0].GetDescription(), "connected") {
		return fmt.Errorf("the wrong fields: %v", fields)
	}
	request.Labels[stage] = "connected"
	valid, err := w.leads.CreateLead(ctx, request)
	if err != nil {
		return err
	}
	if valid.GetLead() != nil {
		return fmt.Errorf("the validation wrote a lead: %v", valid)
	}
	request.ValidateOnly = false
	request.RequestId = rand.Text()
	written, err := w.leads.CreateLead(ctx, request)
	if err != nil {
		return err
	}
	id := written.GetLead().GetId()

	read, err := w.leads.GetLead(ctx, &leadsdv1.GetLeadRequest{
		Id: id, Properties: []string{stage, owner}, Display: true,
	})
	if err != nil {
		return err
	}
	labels := read.GetLead().GetLabels()
	if !maps.Equal(labels, map[string]string{stage: "connected", owner: w.owner}) {
		return fmt.Errorf("read something else: %v", read)
	}
	// The contact that the address named is the primary one. Associating it again has no effect.
	_, err = w.leads.AssociateLead(ctx, &leadsdv1.AssociateLeadRequest{
		LeadId: id, ObjectType: "contacts", ToId: w.contact, TypeLabels: []string{"Primary"},
	})
	if err != nil {
		return err
	}
	page, err := w.leads.ListLeadAssociations(ctx, &leadsdv1.ListLeadAssociationsRequest{
		LeadId: id, ObjectType: "contacts",
	})
	if err != nil {
		return err
	}
	isOurs := func(object *leadsdv1.AssociatedObject) bool {
		return object.GetId() == w.contact && object.GetLabel() == "Primary"
	}
	if !slices.ContainsFunc(page.GetObjects(), isOurs) {
		return fmt.Errorf("another contact: %v", page)
	}
	fmt.Printf("created %s by names: %v\n", id, labels)
	return nil
}

// batch creates many: one result per input, in input order.
func (w *walk) batch(ctx context.Context) error {
	labels := []string{"HOT", "WARM", "BOILING", "COLD", "HOT", "WARM"}
	request := &leadsdv1.BatchCreateLeadsRequest{RequestId: rand.Text()}
	for number, label := range labels {
		request.Inputs = append(request.Inputs, &leadsdv1.LeadCreate{
			Properties: map[string]string{
				"hs_lead_name":  fmt.Sprintf("Batch %d of %s", number, w.word),
				"hs_lead_label": label,
			},
			PrimaryContactId: w.contact,
		})
	}
	response, err := w.leads.BatchCreateLeads(ctx, request)
	if err != nil {
		return err
	}
	for number, result := range response.GetResults() {
		switch outcome := result.GetOutcome().(type) {
		case *leadsdv1.LeadWriteResult_Lead:
			if labels[number] == "BOILING" {
				return fmt.Errorf("input %d was taken: %v", number, outcome.Lead)
			}
		case *leadsdv1.LeadWriteResult_Error:
			failure := FailureOf(status.FromProto(outcome.Error).Err())
			if labels[number] != "BOILING" || failure.Reason != "VALIDATION_FAILED" {
				return fmt.Errorf("input %d: %v", number, failure)
			}
			fmt.Printf("input %d failed alone: %v\n", number, failure)
		default:
			return fmt.Errorf("input %d has no outcome", number)
		}
	}
	if len(response.GetResults()) != len(labels) {
		return fmt.Errorf("%d results for %d inputs", len(response.GetResults()), len(labels))
	}
	return nil
}

// search finds the leads of the batch page by page.
func (w *walk) search(ctx context.Context) error {
	request := &leadsdv1.SearchLeadsRequest{
		FilterGroups: []*leadsdv1.FilterGroup{{Filters: []*leadsdv1.Filter{
			{PropertyName: "hs_lead_name", Operator: leadsdv1.FilterOperator_FILTER_OPERATOR_CONTAINS_TOKEN, Value: w.word},
			{PropertyName: "hs_lead_label", Operator: leadsdv1.FilterOperator_FILTER_OPERATOR_IN, Values: []string{"WARM", "COLD"}},
		}}},
		Sorts:      []*leadsdv1.Sort{{PropertyName: "hs_lead_name", Direction: leadsdv1.SortDirection_SORT_DIRECTION_DESCENDING}},
		Properties: []string{"hs_lead_name"},
		PageSize:   2,
	}
	var names []string
	pages := 0
	for {
		page, err := w.leads.SearchLeads(ctx, request)
		if err != nil {
			return err
		}
		if page.GetTotal() != 3 {
			return fmt.Errorf("%d leads match instead of 3", page.GetTotal())
		}
		pages++
		for _, lead := range page.GetLeads() {
			names = append(names, lead.GetProperties()["hs_lead_name"])
		}
		if page.GetNextPageToken() == "" {
			break
		}
		request.PageToken = page.GetNextPageToken()
	}
	expected := []string{"Batch 5 of " + w.word, "Batch 3 of " + w.word, "Batch 1 of " + w.word}
	if !slices.Equal(names, expected) || pages != 2 {
		return fmt.Errorf("found %q on %d pages", names, pages)
	}
	fmt.Printf("found %d leads on %d pages\n", len(names), pages)
	return nil
}

// portals selects portal and priority of single calls.
func (w *walk) portals(ctx context.Context, server Server) error {
	bulk := metadata.AppendToOutgoingContext(context.Background(), "leadsd-priority", "bulk")
	if _, err := w.leads.ListLeads(bulk, &leadsdv1.ListLeadsRequest{PageSize: 1}); err != nil {
		return err
	}
	nowhere := metadata.AppendToOutgoingContext(context.Background(), "leadsd-portal", "nowhere")
	_, err := w.leads.ListLeads(nowhere, &leadsdv1.ListLeadsRequest{})
	if server.TokenFile != "" {
		// Errors for authenticated callers do not list the portals.
		return expect(err, codes.PermissionDenied, "CALLER_FORBIDDEN")
	}
	return expect(err, codes.InvalidArgument, "UNKNOWN_PORTAL")
}

// errors reads the details of a failed call.
func (w *walk) errors(ctx context.Context) error {
	_, err := w.leads.GetLead(ctx, &leadsdv1.GetLeadRequest{Id: "999999999"})
	if err := expect(err, codes.NotFound, "LEAD_NOT_FOUND"); err != nil {
		return err
	}
	_, err = w.leads.CreateLead(ctx, &leadsdv1.CreateLeadRequest{
		Properties: map[string]string{"hs_lead_name": "Invalid of " + w.word},
	})
	if err := expect(err, codes.InvalidArgument, "INVALID_REQUEST"); err != nil {
		return err
	}
	fields := FailureOf(err).Fields
	if len(fields) != 1 || fields[0].GetField() != "primary_contact_id" {
		return fmt.Errorf("the wrong fields: %v", fields)
	}
	return nil
}

// limits sends more searches than HubSpot allows per second: calls without a permit before their
// deadline are rejected immediately, with a retry delay.
func (w *walk) limits(ctx context.Context) error {
	search := func(ctx context.Context, number int) error {
		_, err := w.leads.SearchLeads(ctx, &leadsdv1.SearchLeadsRequest{Query: fmt.Sprint(w.word, number)})
		return err
	}
	failures := make([]error, 30)
	var all sync.WaitGroup
	for number := range failures {
		all.Go(func() {
			hurried, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			defer cancel()
			failures[number] = search(hurried, number)
		})
	}
	all.Wait()
	refused := 0
	for _, err := range failures {
		// A call may also exceed its deadline.
		if err == nil || status.Code(err) == codes.DeadlineExceeded {
			continue
		}
		if failure := FailureOf(err); failure.Reason != "RATE_LIMITED" || failure.Retry == nil {
			return fmt.Errorf("not a refusal with a time to wait: %v", failure)
		}
		refused++
	}
	if refused == 0 {
		return errors.New("no search was refused")
	}
	// A retry after the stated delay succeeds.
	err := Retry(ctx, func(ctx context.Context) error { return search(ctx, -1) })
	if err == nil {
		fmt.Printf("%d of %d hurried searches refused, the patient one answered\n", refused, len(failures))
	}
	return err
}

// deadline watches the quota until the deadline of the call.
func (w *walk) deadline(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	stream, err := w.quota.WatchQuota(ctx, &leadsdv1.WatchQuotaRequest{
		Interval: durationpb.New(100 * time.Millisecond),
	})
	if err != nil {
		return err
	}
	seen := 0
	for {
		response, err := stream.Recv()
		if status.Code(err) == codes.DeadlineExceeded && seen > 1 {
			fmt.Printf("saw the quota %d times until the deadline\n", seen)
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d answers: %w", seen, err)
		}
		if len(response.GetQuota().GetBuckets()) != 3 {
			return fmt.Errorf("other limits than HubSpot's: %v", response)
		}
		seen++
	}
}

// balancing asserts that each address served calls of one channel.
func (w *walk) balancing(ctx context.Context, server Server) error {
	if len(server.Addresses) < 2 {
		return nil
	}
	for range 10 * len(server.Addresses) {
		if _, err := w.leads.ListLeads(ctx, &leadsdv1.ListLeadsRequest{PageSize: 1}); err != nil {
			return err
		}
	}
	for _, address := range server.Addresses {
		one := server
		one.Addresses = []string{address}
		connection, err := one.Connect()
		if err != nil {
			return err
		}
		defer connection.Close()
		quota, err := leadsdv1.NewQuotaServiceClient(connection).GetQuota(ctx, &leadsdv1.GetQuotaRequest{})
		if err != nil {
			return err
		}
		burst := quota.GetQuota().GetBuckets()[0]
		var used float64
		for _, caller := range burst.GetCallers() {
			used += caller.GetUsed()
		}
		if used < 5 {
			return fmt.Errorf("%s answered %v calls: %v", address, used, burst)
		}
		fmt.Printf("%s answered %v calls\n", address, used)
	}
	return nil
}
