//go:build linux

package install

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// nothingLeft holds a removal to its word: no object of any kind that is named after us or lies in our
// namespace.
func (s *site) nothingLeft(t *testing.T) {
	t.Helper()
	client, err := metadata.NewForConfig(s.plane.Config)
	check(t, err)
	check(t, kube.Wait(t.Context(), "everything of Evictgate to go", func(ctx context.Context) (bool, error) {
		left, err := s.left(ctx, client)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("left: %s", strings.Join(left, ", "))
		}
		return err == nil, err
	}))
}

func (s *site) left(ctx context.Context, client metadata.Interface) ([]string, error) {
	lists, err := s.plane.Client.Discovery().ServerPreferredResources()
	if err != nil {
		return nil, err
	}
	var left []string
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") {
				continue
			}
			objects, err := client.Resource(version.WithResource(r.Name)).List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", r.Name, err)
			}
			for _, o := range objects.Items {
				if o.Namespace == ours || strings.Contains(o.Name, ours) {
					left = append(left, r.Name+" "+o.Namespace+"/"+o.Name)
				}
			}
		}
	}
	return left, nil
}
