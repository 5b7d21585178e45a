package doctor

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/evictgate/evictgate/webhook/callers"
	"github.com/evictgate/evictgate/webhook/hooks"
)

func TestWhetherTheAPIServerIsKnown(t *testing.T) {
	plain := func(f *Facts) {
		*f.Configuration.Value.Webhooks[0].ClientConfig.Service.Path = hooks.EvictionsPath
		*f.Configuration.Value.Webhooks[1].ClientConfig.Service.Path = hooks.PoliciesPath
	}
	marked := func(pods []corev1.Pod) {
		for i := range pods {
			pods[i].Annotations = map[string]string{callers.Annotation: "true"}
		}
	}
	for name, c := range map[string]struct {
		change     func(*Facts)
		status     Status
		text, cure string
	}{
		"by a secret path":   {func(*Facts) {}, OK, "by the secret part of its path, /validate-eviction/…", ""},
		"by its certificate": {func(f *Facts) { plain(f); f.Arguments.Value.ClientCA = true }, OK, "by its client certificate", ""},
		"not, while older pods are there": {func(f *Facts) { plain(f); marked(f.Pods.Value[1:]) },
			Warning, "the path of evictions.evictgate.dev and policies.evictgate.dev has no secret part", "which evictgate-1 lack"},
		"not, since nobody writes it": {func(f *Facts) { plain(f); marked(f.Pods.Value) }, Warning, "has no secret part", "its log says why"},
		"not, with certificates from files": {func(f *Facts) { plain(f); f.Arguments.Value.SecretPath = pathFollow },
			Note, "has no secret part", "write it into the configuration"},
		"not by one of the webhooks": {func(f *Facts) { *f.Configuration.Value.Webhooks[1].ClientConfig.Service.Path = hooks.PoliciesPath },
			Warning, "the path of policies.evictgate.dev has no secret part", ""},
		"not, for the secret is too short": {func(f *Facts) {
			*f.Configuration.Value.Webhooks[0].ClientConfig.Service.Path = hooks.EvictionsPath + "/abc"
		},
			Warning, "behind the path of evictions.evictgate.dev is not a secret", "32 to 64 digits"},
		"not, since it is turned off": {func(f *Facts) { f.Arguments.Value.SecretPath = "off" }, Warning, "--secret-path=off says not to heed it", "serve without"},
	} {
		t.Run(name, func(t *testing.T) {
			f := whole(t)
			c.change(f)
			list := Examine(f)
			i := slices.IndexFunc(list, func(f Finding) bool { return f.Check == "callers" })
			if i < 0 || list[i].Status != c.status || !strings.Contains(list[i].Text, c.text) || !strings.Contains(list[i].Cure, c.cure) {
				t.Fatalf("found %+v", list)
			}
			for _, f := range list {
				if strings.Contains(f.Text+f.Cure+f.Command, someSecret) {
					t.Errorf("the secret is shown: %+v", f)
				}
				if strings.HasPrefix(f.Check, "configuration") && f.Bad() {
					t.Errorf("found %+v", f)
				}
			}
		})
	}
}
