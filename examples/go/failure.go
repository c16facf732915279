package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Failure has the error details of a failed call or input.
type Failure struct {
	Code    codes.Code
	Message string
	// Reason is one of docs/ERRORS.md; empty if the call did not reach leadsd.
	Reason   string
	Metadata map[string]string
	Fields   []*errdetails.BadRequest_FieldViolation
	// Retry is set if a retry can succeed.
	Retry *errdetails.RetryInfo
}

// FailureOf reads the details of an error.
func FailureOf(err error) Failure {
	s := status.Convert(err)
	failure := Failure{Code: s.Code(), Message: s.Message()}
	for _, detail := range s.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			failure.Reason, failure.Metadata = detail.GetReason(), detail.GetMetadata()
		case *errdetails.BadRequest:
			failure.Fields = detail.GetFieldViolations()
		case *errdetails.RetryInfo:
			failure.Retry = detail
		}
	}
	return failure
}

func (f Failure) String() string {
	text := fmt.Sprintf("%v %s: %s", f.Code, f.Reason, f.Message)
	for _, field := range f.Fields {
		text += fmt.Sprintf(" [%s %s]", field.GetField(), field.GetDescription())
	}
	if id, ok := f.Metadata["correlationId"]; ok {
		// HubSpot's support asks for this id.
		text += fmt.Sprintf(" (HubSpot's id: %s)", id)
	}
	return text
}

// Retry repeats a call that is safe to repeat: a read, an update, an upsert, an archive, or a create
// whose repeat leadsd recognizes ("Safe creates" in docs/USING.md). It waits for the stated delay, or
// else with exponential backoff, and never past the deadline.
func Retry(ctx context.Context, call func(context.Context) error) error {
	pause := 200 * time.Millisecond
	for attempt := 1; ; attempt++ {
		err := call(ctx)
		failure := FailureOf(err)
		wait := pause + rand.N(pause)
		switch {
		case err == nil || attempt == 5:
			return err
		case failure.Retry != nil:
			wait = failure.Retry.GetRetryDelay().AsDuration() + rand.N(pause)
		case failure.Code != codes.Unavailable && failure.Reason != "OVERLOADED":
			return err
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
		pause *= 2
	}
}

// expect asserts the code and reason of an error.
func expect(err error, code codes.Code, reason string) error {
	failure := FailureOf(err)
	if failure.Code != code || failure.Reason != reason {
		return fmt.Errorf("%v instead of %v %s", failure, code, reason)
	}
	fmt.Printf("as it should: %v\n", failure)
	return nil
}
