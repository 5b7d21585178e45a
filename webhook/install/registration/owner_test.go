package registration

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// What hinders is told once, and again when all was well in between.
func TestWhatHindersIsToldEachTimeItBegins(t *testing.T) {
	client := fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "evictgate", UID: "n"}})
	hooks := client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	var log bytes.Buffer
	o := &Owner{Client: client, Namespace: "evictgate", Configuration: "evictgate", Log: slog.New(slog.NewTextHandler(&log, nil))}
	attempts := func(told int) {
		t.Helper()
		for range 3 {
			o.attempt(t.Context())
		}
		if n := strings.Count(log.String(), "it does not exist"); n != told {
			t.Errorf("told %d times, want %d:\n%s", n, told, &log)
		}
	}
	attempts(1)
	settled := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{
		Name: "evictgate", OwnerReferences: []metav1.OwnerReference{owner("Namespace", "evictgate", "n")},
	}}
	if _, err := hooks.Create(t.Context(), settled, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	attempts(1)
	if err := hooks.Delete(t.Context(), "evictgate", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	attempts(2)
}
