package manifests

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// TestRemoval takes config/default away: in the documented order, in which nothing is held up at any time, and at once.
func TestRemoval(t *testing.T) {
	plane := start(t, everything(3))
	before := everythingIn(t, plane)
	kubectl(t, plane, "apply", "-k", config("default"))
	ready(t, plane, 3)
	const shop = "shop"
	_, err := plane.Client.CoreV1().Namespaces().Create(t.Context(), namespaceNamed(shop), metav1.CreateOptions{})
	check(t, err)
	_, err = plane.Client.AppsV1().Deployments(shop).Create(t.Context(), kube.Deployment(shop, "web", 1), metav1.CreateOptions{})
	check(t, err)
	pods, err := plane.WaitReady(t.Context(), shop, "web")
	check(t, err)
	if evict(t.Context(), plane, shop, pods[0].Name, true) == nil {
		t.Error("an eviction passed though no replica answers")
	}

	t.Run("without the webhook configuration, evictions pass while all else is still there", func(t *testing.T) {
		kubectl(t, plane, "delete", "-k", config("webhook"))
		check(t, kube.Wait(t.Context(), "an eviction to pass", func(ctx context.Context) (bool, error) {
			err := evict(ctx, plane, shop, pods[0].Name, true)
			return err == nil, err
		}))
		ready(t, plane, 3)
	})
	check(t, plane.Client.CoreV1().Namespaces().Delete(t.Context(), shop, metav1.DeleteOptions{}))
	nothingIsLeft := func(t *testing.T) {
		t.Helper()
		check(t, kube.Wait(t.Context(), "nothing to be left", func(context.Context) (bool, error) {
			return len(leftSince(t, plane, before)) == 0, nil
		}))
	}
	t.Run("then the rest goes, and nothing is left", func(t *testing.T) {
		kubectl(t, plane, "delete", "--ignore-not-found", "-k", config("default"))
		nothingIsLeft(t)
	})
	t.Run("all at once, the webhook configuration goes a moment after the namespace", func(t *testing.T) {
		kubectl(t, plane, "apply", "-k", config("default"))
		ready(t, plane, 3)
		_, stderr, err := plane.Kubectl(t.Context(), "delete", "--ignore-not-found", "-k", config("default"), "-v=6")
		check(t, err)
		first, hook := deletedAt(t, stderr, "namespaces/evictgate"), deletedAt(t, stderr, "validatingwebhookconfigurations/evictgate")
		t.Logf("the configuration was deleted %s after the namespace", hook.Sub(first))
		if hook.Sub(first) > 8*time.Second {
			t.Error("that is longer than a replica goes on answering")
		}
		nothingIsLeft(t)
	})
}

// deletedAt is when kubectl sent the request, from its log.
func deletedAt(t *testing.T, log, object string) time.Time {
	t.Helper()
	line := regexp.MustCompile(`I\d{4} (\S+) .*verb="DELETE" url="[^"]*/` + regexp.QuoteMeta(object) + `["?]`).FindStringSubmatch(log)
	if line == nil {
		t.Fatalf("kubectl did not delete %s:\n%s", object, strings.TrimSpace(log))
	}
	at, err := time.Parse("15:04:05.000000", line[1])
	check(t, err)
	return at
}
