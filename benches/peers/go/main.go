// A thin wrapper around HubSpot: grpc-go and net/http, one HTTP request per GetLead.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	leadsdv1 "leadsd/benches/peers/go/gen/leadsd/v1"
)

// hubspotLead is the part of HubSpot's response that the answer needs.
type hubspotLead struct {
	ID         string             `json:"id"`
	Properties map[string]*string `json:"properties"`
	CreatedAt  time.Time          `json:"createdAt"`
	UpdatedAt  time.Time          `json:"updatedAt"`
	Archived   bool               `json:"archived"`
	URL        string             `json:"url"`
}

type server struct {
	leadsdv1.UnimplementedLeadsServiceServer
	client     *http.Client
	collection string
	token      string
}

func (s *server) GetLead(
	ctx context.Context, request *leadsdv1.GetLeadRequest,
) (*leadsdv1.GetLeadResponse, error) {
	query := url.Values{"properties": {strings.Join(request.Properties, ",")}}
	target := s.collection + "/" + url.PathEscape(request.Id) + "?" + query.Encode()
	outgoing, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	outgoing.Header.Set("Authorization", "Bearer "+s.token)
	response, err := s.client.Do(outgoing)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, status.Error(code(response.StatusCode), response.Status)
	}
	var lead hubspotLead
	if err := json.NewDecoder(response.Body).Decode(&lead); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	properties := make(map[string]string, len(lead.Properties))
	for name, value := range lead.Properties {
		if value != nil {
			properties[name] = *value
		}
	}
	return &leadsdv1.GetLeadResponse{Lead: &leadsdv1.Lead{
		Id:         lead.ID,
		Properties: properties,
		CreateTime: timestamppb.New(lead.CreatedAt),
		UpdateTime: timestamppb.New(lead.UpdatedAt),
		Archived:   lead.Archived,
		Url:        lead.URL,
	}}, nil
}

func code(status int) codes.Code {
	switch {
	case status == http.StatusNotFound:
		return codes.NotFound
	case status == http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case status >= http.StatusInternalServerError:
		return codes.Unavailable
	default:
		return codes.FailedPrecondition
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	// The default of two would open a connection for most calls.
	transport.MaxIdleConnsPerHost = 1000
	transport.MaxIdleConns = 1000
	service := &server{
		client:     &http.Client{Transport: transport, Timeout: 30 * time.Second},
		collection: os.Getenv("HUBSPOT_URL") + "/crm/objects/2026-09/leads",
		token:      os.Getenv("HUBSPOT_TOKEN"),
	}
	grpcServer := grpc.NewServer()
	leadsdv1.RegisterLeadsServiceServer(grpcServer, service)
	fmt.Fprintln(os.Stderr, listener.Addr())
	log.Fatal(grpcServer.Serve(listener))
}
