package certs_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"

	"github.com/evictgate/evictgate/certs"
)

// filesWait has a source of files run under exactly FilesRules.
func filesWait(t *testing.T, c *cluster) {
	user := "files-" + c.namespace
	config := rest.CopyConfig(c.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user}
	pair, key, err := cert.GenerateSelfSignedCertKey("localhost", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	check(t, err)
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "tls.crt"), pair, 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "tls.key"), key, 0o600))

	s, err := certs.Files(certs.FilesOptions{
		Dir: dir, RESTConfig: config, WebhookConfiguration: c.namespace, Settle: 500 * time.Millisecond, Logger: logr.Discard(),
	})
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		check(t, <-done)
	})
	subject := "ValidatingWebhookConfiguration " + c.namespace
	saying(t, s, subject+" not yet read: the API server must answer and allow get, list and watch on it")
	c.allowFiles(t, user)
	saying(t, s, subject+" does not exist: create it with annotation cert-manager.io/inject-ca-from=")
	c.configure(t, false, "localhost:1")
	saying(t, s, "caBundle of webhook w0.evictgate.dev in "+subject+" is empty: add annotation")
	patch := fmt.Sprintf(`[{"op":"add","path":"/webhooks/0/clientConfig/caBundle","value":%q}]`, base64.StdEncoding.EncodeToString(pair))
	_, err = c.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().
		Patch(t.Context(), c.namespace, types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
	check(t, err)
	wait(t, "ready", func() error { return s.Ready(nil) })
}

func (c *cluster) allowFiles(t *testing.T, user string) {
	t.Helper()
	meta := metav1.ObjectMeta{Name: user}
	_, err := c.Client.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: meta, Rules: certs.FilesRules(c.namespace)}, metav1.CreateOptions{})
	check(t, err)
	_, err = c.Client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta, Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
	}, metav1.CreateOptions{})
	check(t, err)
}
