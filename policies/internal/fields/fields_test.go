package fields

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestFieldsFollowTheirTags(t *testing.T) {
	var names []string
	for _, f := range Of(reflect.TypeFor[corev1.Pod]()) {
		names = append(names, f.Name)
	}
	if diff := cmp.Diff([]string{"kind", "apiVersion", "metadata", "spec", "status"}, names); diff != "" {
		t.Errorf("a Pod's fields -want +got:\n%s", diff)
	}
}
