package doctor

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// A certificate that cert-manager issues lies in its Secret with the CA, so its leaf can be judged.
func TestACertificateOfCertManager(t *testing.T) {
	ca, key, caPEM := issue(t, noon.Add(-99*time.Hour), noon.Add(999*time.Hour), nil, nil)
	const name = "evictgate.evictgate.svc"
	for what, c := range map[string]struct {
		from, until time.Duration
		names       []string
		status      Status
		text        string
	}{
		"as it should be":        {-time.Hour, 9 * time.Hour, []string{name}, OK, "is for evictgate.evictgate.svc, until 2026-11-02T21:00:00Z"},
		"it is for another name": {-time.Hour, 9 * time.Hour, []string{"evictgate.other.svc"}, Problem, "is for evictgate.other.svc, and the API server calls evictgate.evictgate.svc"},
		"it has ended":           {-9 * time.Hour, -time.Hour, []string{name}, Problem, "ended at 2026-11-02T11:00:00Z"},
		"nothing renews it":      {-99 * time.Hour, time.Hour, []string{name}, Warning, "nothing has renewed it"},
	} {
		t.Run(what, func(t *testing.T) {
			f := whole(t)
			f.Configuration.Value.Annotations = map[string]string{"cert-manager.io/inject-ca-from": "evictgate/evictgate"}
			f.Certificate.Value = &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"conditions": []any{
				map[string]any{"type": "Ready", "status": "True"},
			}}}}
			for i := range f.Configuration.Value.Webhooks {
				f.Configuration.Value.Webhooks[i].ClientConfig.CABundle = caPEM
			}
			_, _, leaf := issue(t, noon.Add(c.from), noon.Add(c.until), ca, key, c.names...)
			f.Secret.Value.Data = map[string][]byte{"ca.crt": caPEM, "tls.crt": leaf}
			list := Examine(f)
			for _, want := range []Finding{{Check: "certificate.names", Status: c.status, Text: c.text}, {Check: "certificate.cert-manager", Status: OK}, {Check: "certificate.secret", Status: OK}} {
				if !slices.ContainsFunc(list, func(f Finding) bool {
					return f.Check == want.Check && f.Status == want.Status && strings.Contains(f.Text, want.Text)
				}) {
					t.Errorf("no %+v in %+v", want, list)
				}
			}
		})
	}
}

// A certificate from files lies in a Secret that only the Deployment names.
func TestACertificateThatIsMountedByHand(t *testing.T) {
	const name = "evictgate.evictgate.svc"
	for what, c := range map[string]struct {
		from, until time.Duration
		names       []string
		want        Finding
	}{
		"as it should be":        {-time.Hour, 9 * time.Hour, []string{name}, Finding{Status: OK, Text: "Secret evictgate/serving is for evictgate.evictgate.svc, until 2026-11-02T21:00:00Z"}},
		"it is for another name": {-time.Hour, 9 * time.Hour, []string{"other"}, Finding{Status: Problem, Text: "is for other, and the API server calls evictgate.evictgate.svc"}},
		"nothing renews it":      {-99 * time.Hour, time.Hour, []string{name}, Finding{Status: Warning, Text: "nothing has renewed it"}},
		"it is good for long":    {-3000 * 24 * time.Hour, 31 * 24 * time.Hour, []string{name}, Finding{Status: OK, Text: "until 2026-12-03T12:00:00Z"}},
	} {
		t.Run(what, func(t *testing.T) {
			f := whole(t)
			f.Configuration.Value.Annotations = nil
			f.Arguments.Value = &Arguments{CertDir: "/certs/"}
			f.Deployment.Value.Spec.Template.Spec = mounted("/certs", "serving")
			if got := f.servedSecret(); got != "evictgate/serving" {
				t.Errorf("served from Secret %q", got)
			}
			_, _, leaf := issue(t, noon.Add(c.from), noon.Add(c.until), nil, nil, c.names...)
			f.Secret.Value = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "evictgate", Name: "serving"}, Data: map[string][]byte{"tls.crt": leaf}}
			list := Examine(f)
			i := slices.IndexFunc(list, func(f Finding) bool {
				return f.Check == "certificate.names" && f.Status == c.want.Status && strings.Contains(f.Text, c.want.Text)
			})
			if i < 0 {
				t.Fatalf("no %+v in %+v", c.want, list)
			}
			if strings.Contains(list[i].Cure+list[i].Command, "why cert-manager") {
				t.Errorf("cert-manager has nothing to do with %+v", list[i])
			}
		})
	}
}

// mounted is a pod that has a Secret at a path, beside other things.
func mounted(path, secret string) corev1.PodSpec {
	return corev1.PodSpec{
		Containers: []corev1.Container{{VolumeMounts: []corev1.VolumeMount{{Name: "room", MountPath: "/tmp"}, {Name: "certs", MountPath: path}}}},
		Volumes: []corev1.Volume{{Name: "room"}, {Name: "certs", VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: secret},
		}}},
	}
}

func TestOnlyADirectoryWithASecretNamesOne(t *testing.T) {
	for what, change := range map[string]func(*Facts){
		"an own CA":                   func(f *Facts) { f.Arguments.Value.CertDir = "" },
		"another directory":           func(f *Facts) { f.Arguments.Value.CertDir = "/elsewhere" },
		"no Secret there":             func(f *Facts) { f.Arguments.Value.CertDir = "/tmp" },
		"arguments that nobody knows": func(f *Facts) { f.Arguments.Value = nil },
	} {
		f := whole(t)
		f.Arguments.Value = &Arguments{CertDir: "/certs"}
		f.Deployment.Value.Spec.Template.Spec = mounted("/certs", "serving")
		change(f)
		if got := f.servedSecret(); got != "" {
			t.Errorf("%s: served from Secret %q", what, got)
		}
	}
}
