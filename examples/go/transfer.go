package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	leadsdv1 "leadsd/examples/go/gen/leadsd/v1"
)

// attempts is the maximum number of streams of one import or export.
const attempts = 10

// transfer imports rows, one of which is invalid, and exports what was created.
func (w *walk) transfer(ctx context.Context) error {
	rows := make(map[string]*leadsdv1.LeadCreate)
	for key, label := range map[string]string{"row-1": "HOT", "row-2": "BOILING", "row-3": "COLD"} {
		rows[key] = &leadsdv1.LeadCreate{
			Properties:       map[string]string{"hs_lead_name": key + " of " + w.word, "hs_lead_label": label},
			PrimaryContactId: w.contact,
		}
	}
	results, err := w.importRows(ctx, rows)
	if err != nil {
		return err
	}
	failure := FailureOf(status.FromProto(results["row-2"].GetError()).Err())
	if len(results) != len(rows) || failure.Reason != "VALIDATION_FAILED" {
		return fmt.Errorf("%d results, and %v", len(results), failure)
	}
	exported, err := w.exportIDs(ctx)
	if err != nil {
		return err
	}
	for _, key := range []string{"row-1", "row-3"} {
		if id := results[key].GetLead().GetId(); !slices.Contains(exported, id) {
			return fmt.Errorf("%s is not exported: %v", id, exported)
		}
	}
	fmt.Printf("imported 2 of %d rows, exported %d leads\n", len(rows), len(exported))
	return nil
}

// importRows creates a lead for each row, and returns one result per key. A stream that breaks or ends
// early is continued with the rows that have no result: with the same import id, no lead is created twice.
func (w *walk) importRows(
	ctx context.Context, rows map[string]*leadsdv1.LeadCreate,
) (map[string]*leadsdv1.ImportResult, error) {
	settings := &leadsdv1.ImportSettings{ImportId: rand.Text()}
	results := make(map[string]*leadsdv1.ImportResult)
	for range attempts {
		complete, err := w.importPart(ctx, settings, rows, results)
		if complete {
			return results, nil
		}
		if err != nil && status.Code(err) != codes.Unavailable {
			return nil, err
		}
		time.Sleep(time.Second)
	}
	return nil, errors.New("the import does not end")
}

// importPart is one stream. It is complete if all rows have results.
func (w *walk) importPart(
	ctx context.Context,
	settings *leadsdv1.ImportSettings,
	rows map[string]*leadsdv1.LeadCreate,
	results map[string]*leadsdv1.ImportResult,
) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := w.leads.ImportLeads(ctx)
	if err != nil {
		return false, err
	}
	requests := []*leadsdv1.ImportLeadsRequest{
		{Content: &leadsdv1.ImportLeadsRequest_Settings{Settings: settings}},
	}
	for key, lead := range rows {
		if results[key] == nil {
			row := &leadsdv1.ImportRow{Key: key, Write: &leadsdv1.ImportRow_Create{Create: lead}}
			requests = append(requests, &leadsdv1.ImportLeadsRequest{
				Content: &leadsdv1.ImportLeadsRequest_Row{Row: row},
			})
		}
	}
	// The rows are sent while results are read; Send waits if leadsd does.
	go send(stream, requests)
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if result := message.GetResult(); result != nil {
			results[result.GetKey()] = result
		} else if message.GetSummary().GetComplete() {
			return true, nil
		}
	}
}

// send sends requests. An error of Send means that the stream has ended, which Recv reports.
func send(
	stream grpc.BidiStreamingClient[leadsdv1.ImportLeadsRequest, leadsdv1.ImportLeadsResponse],
	requests []*leadsdv1.ImportLeadsRequest,
) {
	for _, request := range requests {
		if stream.Send(request) != nil {
			return
		}
	}
	_ = stream.CloseSend()
}

// exportIDs returns the ids of all leads of this run. The token of each message continues a stream that
// breaks or ends early, at any replica.
func (w *walk) exportIDs(ctx context.Context) ([]string, error) {
	request := &leadsdv1.ExportLeadsRequest{
		FilterGroups: []*leadsdv1.FilterGroup{{Filters: []*leadsdv1.Filter{
			{PropertyName: "hs_lead_name", Operator: leadsdv1.FilterOperator_FILTER_OPERATOR_CONTAINS_TOKEN, Value: w.word},
		}}},
		Properties: []string{"hs_lead_name"},
	}
	var ids []string
	for range attempts {
		complete, err := w.exportPart(ctx, request, &ids)
		if complete {
			return ids, nil
		}
		if err != nil && status.Code(err) != codes.Unavailable {
			return nil, err
		}
		time.Sleep(time.Second)
	}
	return nil, errors.New("the export does not end")
}

// exportPart is one stream. It is complete if all leads were sent.
func (w *walk) exportPart(
	ctx context.Context, request *leadsdv1.ExportLeadsRequest, ids *[]string,
) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := w.leads.ExportLeads(ctx, request)
	if err != nil {
		return false, err
	}
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		for _, lead := range message.GetLeads() {
			*ids = append(*ids, lead.GetId())
		}
		request.ResumeToken = message.GetResumeToken()
		if message.GetComplete() {
			return true, nil
		}
	}
}
