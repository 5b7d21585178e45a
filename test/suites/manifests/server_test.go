package manifests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// built is where the program is built, if a test needs it.
var built string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "evictgate-manifests-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	built = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// build builds the program once for all tests.
var build = sync.OnceValues(func() (string, error) { return gate.Build(built) })

// server is the real program with the arguments of the installed Deployment, as its ServiceAccount. It runs beside the
// cluster, since there are no kubelets.
type server struct {
	listen string
	log    *lockedBuffer
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// serve starts the program, has the API server call it, and waits until it is ready. The further arguments come last,
// so that they count.
func serve(t *testing.T, plane *kube.ControlPlane, more ...string) *server {
	t.Helper()
	binary, err := build()
	check(t, err)
	deployment, err := plane.Client.AppsV1().Deployments(namespace).Get(t.Context(), "evictgate", metav1.GetOptions{})
	check(t, err)
	health := address(t)
	s := &server{listen: address(t), log: &lockedBuffer{}}
	args := append(slices.Clone(deployment.Spec.Template.Spec.Containers[0].Args),
		"--kubeconfig", kubeconfigOf(t, plane, deployment.Spec.Template.Spec.ServiceAccountName), "--cert-namespace", namespace,
		"--dns-names", "localhost", "--listen", s.listen, "--health-listen", health, "--metrics-listen", "0", "--shutdown-delay", "0s")
	if slices.Contains(args, "--certs=self") {
		args = append(args, "--own-configuration=true") // as a pod does
	}
	cmd := exec.Command(binary, append(args, more...)...)
	cmd.Stderr = s.log
	register(t, plane, s.listen)
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		err := cmd.Wait()
		if err != nil || t.Failed() {
			t.Errorf("serve ended with %v; its log:\n%s", err, s.log)
		}
	})
	check(t, kube.Wait(t.Context(), "serve to be ready", func(ctx context.Context) (bool, error) {
		code, text, err := get(ctx, http.DefaultClient, "http://"+health+"/readyz?verbose", "")
		if err == nil && code != http.StatusOK {
			err = errors.New(text)
		}
		return err == nil, err
	}))
	return s
}

func address(t *testing.T) string {
	t.Helper()
	free, err := kube.FreeAddress()
	check(t, err)
	return free
}

// page is the URL of the review page, which the log tells.
func (s *server) page(t *testing.T) string {
	t.Helper()
	found := regexp.MustCompile(`"msg":"the review page serves","url":"https://[^"]*:([0-9]+)/"`).FindStringSubmatch(s.log.String())
	if found == nil {
		t.Fatalf("the log names no review page:\n%s", s.log)
	}
	return "https://127.0.0.1:" + found[1] + "/"
}

// register has the API server call a URL instead of the Service; all else stays as the manifests say.
func register(t *testing.T, plane *kube.ControlPlane, listen string) {
	t.Helper()
	_, port, err := net.SplitHostPort(listen)
	check(t, err)
	change(t, plane, func(w *admissionv1.ValidatingWebhook) {
		to := url.URL{Scheme: "https", Host: "localhost:" + port}
		if w.ClientConfig.Service != nil {
			to.Path = *w.ClientConfig.Service.Path
		} else { // by an earlier server
			earlier, err := url.Parse(*w.ClientConfig.URL)
			check(t, err)
			to.Path = earlier.Path
		}
		w.ClientConfig.URL, w.ClientConfig.Service = new(to.String()), nil
	})
}

// kubeconfigOf writes a kubeconfig with a token of a ServiceAccount and nothing else.
func kubeconfigOf(t *testing.T, plane *kube.ControlPlane, account string) string {
	t.Helper()
	c := clientcmdapi.NewConfig()
	c.Clusters["test"] = &clientcmdapi.Cluster{Server: plane.Config.Host, CertificateAuthorityData: plane.Config.CAData}
	c.AuthInfos["test"] = &clientcmdapi.AuthInfo{Token: token(t, plane, account)}
	c.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	c.CurrentContext = "test"
	file := filepath.Join(t.TempDir(), "kubeconfig")
	check(t, clientcmd.WriteToFile(*c, file))
	return file
}

func token(t *testing.T, plane *kube.ControlPlane, account string) string {
	t.Helper()
	request, err := plane.Client.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	check(t, err)
	return request.Status.Token
}

func get(ctx context.Context, client *http.Client, page, token string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	var body bytes.Buffer
	_, err = body.ReadFrom(response.Body)
	return response.StatusCode, body.String(), err
}
