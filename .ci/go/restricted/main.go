// Command restricted reads rendered manifests from standard input and fails if a pod violates the Pod
// Security Standard "restricted". It evaluates pods with the library of the API server.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// The parts of a Pod, or of a workload with a pod template, that the standard concerns.
type manifest struct {
	Kind     string
	Metadata metav1.ObjectMeta
	Spec     struct {
		v1.PodSpec
		Template *v1.PodTemplateSpec
	}
}

func main() {
	pods, err := check(os.Stdin)
	if err == nil && pods == 0 {
		err = errors.New("no pods in the manifests")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%d pods are restricted\n", pods)
}

func check(input io.Reader) (int, error) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return 0, err
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	documents := yaml.NewYAMLOrJSONDecoder(input, 4096)
	for pods := 0; ; {
		var object manifest
		if err := documents.Decode(&object); errors.Is(err, io.EOF) {
			return pods, nil
		} else if err != nil {
			return pods, err
		}
		meta, spec := &object.Metadata, &object.Spec.PodSpec
		if object.Spec.Template != nil {
			meta, spec = &object.Spec.Template.ObjectMeta, &object.Spec.Template.Spec
		}
		if len(spec.Containers) == 0 {
			continue
		}
		pods++
		var faults bytes.Buffer
		for _, result := range evaluator.EvaluatePod(level, meta, spec) {
			if !result.Allowed {
				fmt.Fprintf(&faults, "\n  %s: %s", result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
		if faults.Len() > 0 {
			return pods, fmt.Errorf("%s %s is not restricted:%s", object.Kind, object.Metadata.Name, faults.String())
		}
	}
}
