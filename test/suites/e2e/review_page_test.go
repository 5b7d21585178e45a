package e2e

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/gate"
)

// TestReviewPageAsksTheClusterWhoMayRead: on an address that other machines reach, the page is for those
// whom RBAC lets get /review.
func TestReviewPageAsksTheClusterWhoMayRead(t *testing.T) {
	if shared == nil {
		space(t) // skips
	}
	_, port, _ := strings.Cut(freePort(t), ":")
	_, namespace := start(t, gate.Options{Args: []string{"--review-listen", "0.0.0.0:" + port}})
	pod := deploy(t, namespace, "web", 1, "", nil)[0].Name
	if err := evict(t.Context(), namespace, pod, nil); err != nil {
		t.Fatal(err)
	}
	role := namespace + "-review"
	reader, stranger := token(t, namespace, "reader"), token(t, namespace, "stranger")
	allowReview(t, role, namespace, "reader")
	address := "https://127.0.0.1:" + port

	if status, text := look(t, address+"/decisions", ""); status != http.StatusUnauthorized || !strings.Contains(text, "kubectl create token") || strings.Contains(text, pod) {
		t.Errorf("without a token: %d\n%s", status, text)
	}
	if status, _ := look(t, address+"/decisions", "not.a.token"); status != http.StatusUnauthorized {
		t.Errorf("with a wrong token: %d", status)
	}
	if status, text := look(t, address+"/decisions?format=html", stranger); status != http.StatusForbidden || strings.Contains(text, pod) {
		t.Errorf("without the right: %d\n%s", status, text)
	}
	eventually(t, func() bool {
		status, text := look(t, address+"/decisions?namespace="+namespace, reader)
		return status == http.StatusOK && strings.Contains(text, pod)
	})
	if status, text := look(t, address+"/policies", reader); status != http.StatusOK || !strings.Contains(text, "do_not_disrupt") {
		t.Errorf("the policies that serve: %d\n%s", status, text)
	}
	client := browserLike(t)
	response, err := client.PostForm(address+"/login", url.Values{"token": {reader}, "next": {"/stuck"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(text), "system:serviceaccount:"+namespace+":reader") {
		t.Errorf("after the login: %d %v\n%s", response.StatusCode, err, text)
	}
}

// token makes a service account and a token of it.
func token(t *testing.T, namespace, name string) string {
	t.Helper()
	accounts := shared.Client.CoreV1().ServiceAccounts(namespace)
	if _, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	request, err := accounts.CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return request.Status.Token
}

func allowReview(t *testing.T, role, namespace, account string) {
	t.Helper()
	rbac := shared.Client.RbacV1()
	_, err := rbac.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: role}, Rules: []rbacv1.PolicyRule{{NonResourceURLs: []string{"/review"}, Verbs: []string{"get"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = rbac.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: account}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// browserLike keeps cookies. Who serves is proved elsewhere.
func browserLike(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}

func look(t *testing.T, address, token string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := browserLike(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Error("it did not come to be in 20 s")
}
