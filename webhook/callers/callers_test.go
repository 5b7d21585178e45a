package callers

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var secretA, secretB = strings.Repeat("a", 32), strings.Repeat("b", 64)

func TestWhatIsASecret(t *testing.T) {
	for path, want := range map[string]string{
		"/validate-eviction":                                   "",
		"/validate-eviction/":                                  "",
		"/validate-eviction/" + secretA:                        secretA,
		"/validate-eviction/" + secretB:                        secretB,
		"/validate-eviction/" + secretA + "/":                  "",
		"/validate-eviction/" + strings.Repeat("a", 31):        "",
		"/validate-eviction/" + strings.Repeat("a", 65):        "",
		"/validate-eviction/" + strings.Repeat("A", 32):        "",
		"/validate-eviction/" + strings.Repeat("a", 31) + "%":  "",
		"/validate-evictionpolicy/" + strings.Repeat("0f", 16): strings.Repeat("0f", 16),
	} {
		if got := secretOf(path); got != want {
			t.Errorf("%s has the secret %q, expected %q", path, got, want)
		}
	}
	if a, b := newSecret(), newSecret(); a == b || !valid(a) || !valid(b) {
		t.Errorf("made %s and %s", a, b)
	}
}

func TestWhatAWebhookIsCalledBy(t *testing.T) {
	service := func(path string) admissionv1.WebhookClientConfig {
		return admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: "evictgate", Name: "evictgate", Path: &path}}
	}
	url := func(text string) admissionv1.WebhookClientConfig { return admissionv1.WebhookClientConfig{URL: &text} }
	const plain = "/validate-eviction"
	for name, c := range map[string]struct {
		to      admissionv1.WebhookClientConfig
		secret  string
		ours    bool
		changed string
	}{
		"the plain path":             {service(plain), "", true, plain + "/" + secretA},
		"a secret path":              {service(plain + "/" + secretB), secretB, true, plain + "/" + secretA},
		"another path":               {service("/validate"), "", false, ""},
		"something that is too long": {service(plain + "/" + secretB + "0"), "", false, ""},
		"no path":                    {admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{}}, "", false, ""},
		"nothing":                    {admissionv1.WebhookClientConfig{}, "", false, ""},
		"a URL":                      {url("https://localhost:9443" + plain), "", true, "https://localhost:9443" + plain + "/" + secretA},
		"a URL with a secret":        {url("https://localhost:9443" + plain + "/" + secretB), secretB, true, "https://localhost:9443" + plain + "/" + secretA},
		"a URL behind a proxy":       {url("https://gate.example/a" + plain), "", true, "https://gate.example/a" + plain + "/" + secretA},
		"no URL at all":              {url("://"), "", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			secret, ours := Carried(c.to, plain)
			if secret != c.secret || ours != c.ours {
				t.Fatalf("carries %q, ours: %v", secret, ours)
			}
			if !ours {
				return
			}
			changed := withSecret(c.to, plain, secretA)
			if changed.URL != nil && *changed.URL != c.changed || changed.Service != nil && *changed.Service.Path != c.changed {
				t.Errorf("becomes %+v, expected %s", changed, c.changed)
			}
			if back, _ := Carried(withSecret(changed, plain, ""), plain); back != "" {
				t.Errorf("without a secret it carries %q", back)
			}
		})
	}
}

func TestAReplacedSecretIsAcceptedForAnHour(t *testing.T) {
	var a accepted
	now := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	a.set([]string{secretA, ""}, nil, now)
	a.set([]string{secretB}, nil, now.Add(time.Minute))
	for after, want := range map[time.Duration]bool{time.Minute: true, 60 * time.Minute: true, 61 * time.Minute: false} {
		if got := a.has(secretA, now.Add(after)); got != want {
			t.Errorf("after %s it is accepted: %v", after, got)
		}
	}
	if !a.has(secretB, now.Add(1000*time.Hour)) || a.has("", now) || a.has(strings.Repeat("c", 32), now) {
		t.Error("others are not judged as they should be")
	}
	for i := range 100 {
		a.set([]string{fmt.Sprintf("%032x", i)}, nil, now.Add(2*time.Hour))
	}
	if n := len(*a.list.Load()); n > maxReplaced+1 {
		t.Errorf("%d secrets are remembered", n)
	}
}

// alone is one Paths that keeps the secret, before a server of its own, at a time that is made up.
func alone(change func(*Options)) (*Paths, *server, *time.Time) {
	now := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	o := Options{Configuration: "evictgate", Hooks: testHooks, Namespace: "evictgate", Secret: "evictgate-path", Rotation: 24 * time.Hour, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	p, s := newPaths(o, true), newServer()
	p.objects, p.now, p.started = s, func() time.Time { return now }, now
	return p, s, &now
}

func (s *server) carries() string { return common(testHooks.carried(s.latest(), "")) }

func TestAnInstallationGetsItsSecretAtOnce(t *testing.T) {
	p, s, now := alone(nil)
	if err := p.Ready(nil); err == nil {
		t.Error("ready before there is a secret")
	}
	for range 4 {
		p.attempt(t.Context())
	}
	if got := s.carries(); !valid(got) || got != stateOf(s.secrets[len(s.secrets)-1]).current {
		t.Fatalf("the configuration holds %q, the Secret %+v", got, stateOf(s.secrets[len(s.secrets)-1]))
	}
	if p.Ready(nil) == nil || p.Established() {
		t.Error("API servers had no time to learn of the secret")
	}
	*now = now.Add(settled)
	if err := p.Ready(nil); err != nil || !p.Established() {
		t.Errorf("ready: %v, established: %v", err, p.Established())
	}
	if n := s.patches; n != 1 {
		t.Errorf("%d patches", n)
	}
	if got := s.latest().Webhooks[0].ClientConfig.CABundle; string(got) != "ca" {
		t.Errorf("the caBundle is %q now", got)
	}
}

// forbidden is a server that lets nobody write.
type forbidden struct{ *server }

func (forbidden) patch(context.Context, []byte) (*admissionv1.ValidatingWebhookConfiguration, error) {
	return nil, apierrors.NewForbidden(gr, "evictgate", nil)
}

func TestAReplicaThatMayNotWriteIsReadyAllTheSame(t *testing.T) {
	p, s, _ := alone(nil)
	p.objects = forbidden{s}
	for range 3 {
		p.attempt(t.Context())
	}
	if err := p.Ready(nil); err != nil || p.Established() {
		t.Errorf("ready: %v, established: %v", err, p.Established())
	}
}

func TestAReplicaStaysReadyWhenThePathIsTakenAway(t *testing.T) {
	p, s, now := alone(nil)
	for range 4 {
		p.attempt(t.Context())
	}
	*now = now.Add(settled)
	if err := p.Ready(nil); err != nil {
		t.Fatal(err)
	}
	s.reset()
	p.seeConfiguration(s.latest(), false)
	if err := p.Ready(nil); err != nil || p.Established() {
		t.Errorf("ready: %v, established: %v", err, p.Established())
	}
}

// Whoever keeps putting the plain path back is not fought: the changes become rare.
func TestThePathIsPutBackSeldom(t *testing.T) {
	p, s, now := alone(nil)
	for range 2 * 60 * 60 { // for two hours, each second
		p.attempt(t.Context())
		*now = now.Add(time.Second)
		s.reset()
	}
	if s.patches < 120 || s.patches > 120+changesAtOnce {
		t.Errorf("%d patches in two hours", s.patches)
	}
	*now = now.Add(changeEvery)
	before := s.patches
	for range 4 {
		p.attempt(t.Context())
	}
	if s.patches != before+1 || !valid(s.carries()) {
		t.Errorf("%d patches after quiet, the configuration holds %q", s.patches-before, s.carries())
	}
}

func TestThePlainPathStaysWhileOlderReplicasServe(t *testing.T) {
	replicas := &Replicas{Namespace: "evictgate"}
	p, s, now := alone(func(o *Options) { o.Older = replicas.Older })
	pod := func(uid, namespace, component string, annotations map[string]string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			UID: "u", Name: uid, Namespace: namespace, Annotations: annotations, Labels: map[string]string{nameLabel: ourName, componentLabel: component},
		}}
	}
	replicas.Changed(pod("other", "shop", ourComponent, nil))
	replicas.Changed(pod("page", "evictgate", "page", nil))
	replicas.Changed(pod("new", "evictgate", ourComponent, map[string]string{Annotation: "true"}))
	if got := replicas.Older(); got != "" {
		t.Fatalf("older: %s", got)
	}
	old := pod("old", "evictgate", ourComponent, nil)
	replicas.Changed(old)
	for range 5 {
		p.attempt(t.Context())
		*now = now.Add(time.Minute)
	}
	if got := s.carries(); got != "" || s.patches != 0 {
		t.Fatalf("an upgrade wrote %q in %d patches while an older replica answers 404 to it", got, s.patches)
	}
	if err := p.Ready(nil); err != nil {
		t.Errorf("the upgrade does not go on: %v", err)
	}
	replicas.Removed(old, true)
	for range 5 {
		p.attempt(t.Context())
	}
	if got := s.carries(); !valid(got) {
		t.Fatalf("the upgrade is over, and the configuration holds %q", got)
	}
	replicas.Changed(old) // the way back
	for range 5 {
		p.attempt(t.Context())
	}
	if got := s.carries(); got != "" {
		t.Errorf("an older replica is there, and the configuration holds %q", got)
	}
}

func TestAWebhookThatCallsElsewhereIsLeftAlone(t *testing.T) {
	p, s, _ := alone(func(o *Options) { o.Namespace = "other" })
	for range 5 {
		p.attempt(t.Context())
	}
	if s.patches != 0 || p.Ready(nil) != nil {
		t.Errorf("%d patches, ready: %v", s.patches, p.Ready(nil))
	}
}

func TestFollowBelievesTheConfiguration(t *testing.T) {
	p, s, now := alone(nil)
	p.keeps = false
	raw, err := testHooks.patch(s.latest(), "", secretB)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.patch(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	p.again.every = 0
	ask := func(secret string) bool {
		return p.Known(httptest.NewRequest(http.MethodPost, "/validate-eviction/"+secret, nil))
	}
	if !ask(secretB) || ask(secretA) || ask("") {
		t.Error("a secret that only a live read shows is not known, or another one is")
	}
	p.seeConfiguration(c, false)
	if !p.Established() || p.Ready(nil) != nil {
		t.Error("what the configuration held before is not believed at once")
	}
	s.reset()
	p.seeConfiguration(s.latest(), false)
	if *now = now.Add(time.Minute); p.Established() || !ask(secretB) {
		t.Error("after the path was taken away it is established, or a late review by it is not known")
	}
}

// Secrets that somebody makes up cost few live reads, and few of them wait.
func TestMadeUpSecretsAreBounded(t *testing.T) {
	r := newRefresher()
	var reads atomic.Int32
	var wait sync.WaitGroup
	begun := time.Now()
	for range 500 {
		wait.Go(func() {
			r.do(t.Context(), func(context.Context) error { reads.Add(1); return nil })
		})
	}
	wait.Wait()
	if took := time.Since(begun); float64(reads.Load()) > took.Seconds()/r.every.Seconds()+2 {
		t.Errorf("%d live reads in %s", reads.Load(), took)
	}
	if reads.Load() == 0 {
		t.Error("nothing was read")
	}
}
