package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// serviceConfig has load balancing, retry policy and timeouts. It is the same for every language.
//
//go:embed service_config.json
var serviceConfig string

// maxResponseSize must be at least grpc.max_response_size of leadsd, whose default fits every client.
const maxResponseSize = 64 << 20

// Server has address and credentials of leadsd.
type Server struct {
	// Addresses are replicas, or one target: in Kubernetes dns:/// and a headless Service.
	Addresses []string
	// CAFile enables TLS.
	CAFile string
	// Name is the host name in the certificate, if it differs from the address.
	Name string
	// TokenFile holds the bearer token. It needs TLS.
	TokenFile string
}

// Connect makes a channel that spreads its calls over all addresses.
func (s Server) Connect() (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponseSize)),
	}
	transport := insecure.NewCredentials()
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate in %s", s.CAFile)
		}
		transport = credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	}
	options = append(options, grpc.WithTransportCredentials(transport))
	if s.TokenFile != "" {
		options = append(options, grpc.WithPerRPCCredentials(tokenFile(s.TokenFile)))
	}
	if strings.Contains(s.Addresses[0], "://") {
		return grpc.NewClient(s.Addresses[0], options...)
	}
	replicas := manual.NewBuilderWithScheme("replicas")
	var state resolver.State
	for _, address := range s.Addresses {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address})
	}
	replicas.InitialState(state)
	options = append(options, grpc.WithResolvers(replicas), grpc.WithAuthority(s.Name))
	return grpc.NewClient("replicas:///leadsd", options...)
}

// tokenFile reads the token for every call, so that a rotated token is used immediately.
type tokenFile string

func (f tokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := os.ReadFile(string(f))
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + strings.TrimSpace(string(token))}, nil
}

func (tokenFile) RequireTransportSecurity() bool { return true }
