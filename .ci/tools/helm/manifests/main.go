// Command manifests decodes Kubernetes manifests as an API server does with strict field validation: a field that does not exist, that occurs
// twice or has another type is an error, and so is a kind that Kubernetes itself does not have.
//
//	go run ./manifests FILE...
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

func check(path string) (objects int, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewYAMLReader(bufio.NewReader(file))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return objects, err
		}
		if _, _, err := decoder.Decode(document, nil, nil); err != nil {
			return objects, err
		}
		objects++
	}
}

func main() {
	failed := false
	for _, path := range os.Args[1:] {
		objects, err := check(path)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			failed = true
			continue
		}
		fmt.Printf("%s: %d objects\n", path, objects)
	}
	if failed {
		os.Exit(1)
	}
}
