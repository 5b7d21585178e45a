package monitoring

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUses(t *testing.T) {
	for name, c := range map[string]struct {
		expression string
		want       []use
	}{
		"a selector": {`a{x="1", y!~"2"}`, []use{{"a", []string{"x", "y"}}}},
		"a group":    {`sum by (z) (rate(a{x="1"}[5m]))`, []use{{"a", []string{"x", "z"}}}},
		"a quantile": {`histogram_quantile(0.9, sum by (le) (rate(a_bucket[5m])))`, []use{{"a_bucket", []string{"le"}}}},
		"a join":     {`a and on (i) b{x="1"}`, []use{{"a", []string{"i"}}, {"b", []string{"i", "x"}}}},
		"two groups": {`count by (c) (count by (c, r) (a))`, []use{{"a", []string{"c", "r"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := uses(c.expression)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(use{})); diff != "" {
				t.Errorf("uses differ (-want +got):\n%s", diff)
			}
		})
	}
	for _, broken := range []string{"sum(", `label_replace(a, "x", "y", "z", "w")`} {
		if _, err := uses(broken); err == nil {
			t.Errorf("%s is taken", broken)
		}
	}
}
