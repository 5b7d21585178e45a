package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/evictgate/evictgate/test/harness/kube"
)

func TestTheProgramInTheImageSaysItsVersion(t *testing.T) {
	out, err := inside{Args: []string{"version", "-o", "json"}}.command(t).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got struct{ Version, Revision, Date string }
	must(t, json.Unmarshal(out, &got))
	config := configOf(t, built(t))
	want := got
	want.Version = config.Config.Labels["org.opencontainers.image.version"]
	want.Revision = config.Config.Labels["org.opencontainers.image.revision"]
	if want.Date = config.Created.UTC().Format(time.RFC3339); config.Created.Unix() == 0 {
		want.Date = "" // built without git
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("labels and program differ (-label +program):\n%s", diff)
	}
}

// server is evictgate serving from the image.
type server struct {
	t       *testing.T
	command *exec.Cmd
	url     string
	// work is writable for it, at /scratch.
	work   string
	log    *lockedBuffer
	exited chan error
}

// serve starts the image's program over the sample cluster with files at /data.
func serve(t *testing.T, files map[string]string, env []string, args ...string) *server {
	t.Helper()
	sample, err := os.ReadFile("../../../config/samples/cluster.yaml")
	must(t, err)
	data := t.TempDir()
	write(t, data, "cluster.yaml", string(sample))
	for name, text := range files {
		write(t, data, name, text)
	}
	s := &server{t: t, work: t.TempDir(), log: &lockedBuffer{}, exited: make(chan error, 1)}
	must(t, os.Chown(s.work, 65532, 65532))
	address, err := kube.FreeAddress()
	must(t, err)
	s.url = "https://" + address + "/validate-eviction?timeout=5s"
	i := inside{
		ReadOnly: map[string]string{"/data": data}, Writable: map[string]string{"/scratch": s.work}, Env: env,
		Args: append([]string{
			"serve", "--snapshot", "/data/cluster.yaml", "--ca-out", "/scratch/ca.crt", "--listen", address,
			"--metrics-listen", "0", "--health-listen", "0", "--shutdown-delay", "0s",
		}, args...),
	}
	s.command = i.command(t)
	s.command.Stdout, s.command.Stderr = io.Discard, s.log
	must(t, kube.Spawn(s.command))
	go func() { s.exited <- s.command.Wait() }()
	t.Cleanup(func() {
		_ = s.command.Process.Kill()
		_ = s.wait()
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
	return s
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	must(t, os.Chmod(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
}

// terminate ends the server as a kubelet does, and fails when it does not end well.
func (s *server) terminate() {
	s.t.Helper()
	must(s.t, s.command.Process.Signal(syscall.SIGTERM))
	if err := s.wait(); err != nil {
		s.t.Errorf("after SIGTERM: %v", err)
	}
}

// wait waits for the end of the program, which others may wait for, too.
func (s *server) wait() error {
	err := <-s.exited
	s.exited <- err
	return err
}

// eventually waits until ready returns true, or the server has ended.
func (s *server) eventually(what string, ready func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if ready() {
			return
		}
		select {
		case err := <-s.exited:
			s.exited <- err
			s.t.Fatalf("waiting until %s: the program ended: %v", what, err)
		default:
		}
	}
	s.t.Fatalf("waited in vain until %s", what)
}

// evict sends a review over TLS, held to the CA that the server wrote.
func (s *server) evict(pod string) *admissionv1.AdmissionResponse {
	s.t.Helper()
	client := &http.Client{Timeout: 5 * time.Second}
	s.eventually("it wrote its CA", func() bool {
		text, err := os.ReadFile(filepath.Join(s.work, "ca.crt"))
		pool := x509.NewCertPool()
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
		return err == nil && pool.AppendCertsFromPEM(text)
	})
	defer client.CloseIdleConnections()
	body := fmt.Sprintf(`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u-%[1]s",
		"kind": {"group": "policy", "version": "v1", "kind": "Eviction"}, "resource": {"version": "v1", "resource": "pods"},
		"subResource": "eviction", "operation": "CREATE", "namespace": "shop", "name": "%[1]s", "userInfo": {"username": "admin"},
		"object": {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"namespace": "shop", "name": "%[1]s"}}}}`, pod)
	var answer admissionv1.AdmissionReview
	s.eventually("it answers", func() bool {
		response, err := client.Post(s.url, "application/json", strings.NewReader(body))
		if err != nil {
			return false
		}
		defer func() { _ = response.Body.Close() }()
		return json.NewDecoder(response.Body).Decode(&answer) == nil && answer.Response != nil
	})
	return answer.Response
}

const pod = "web-7d4b9c6f5-2xkqv" // a pod of the sample that nothing holds

func TestTheDefaultPoliciesServeFromTheImage(t *testing.T) {
	s := serve(t, nil, nil)
	if response := s.evict(pod); !response.Allowed {
		t.Errorf("not admitted: %v", response.Result)
	}
	response := s.evict("api-7d4b9c6f5-4c8tr")
	if response.Allowed || response.Result.Code != http.StatusTooManyRequests || !strings.Contains(response.Result.Message, "Budget shop/api") {
		t.Errorf("not held by its budget: %v", response)
	}
	s.terminate()
}

// In Kathmandu it is 5:45 hours later than in UTC, so that a program without time zones would not hold the pod.
func TestTimeZonesAreInTheImage(t *testing.T) {
	there := time.Now().In(time.FixedZone("Asia/Kathmandu", 5*3600+45*60))
	s := serve(t, map[string]string{"freeze.yaml": `apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: freeze}
spec:
  library: freeze_window
  enforcement: Enforce
  parameters:
    windows:
    - {name: here, from: "` + there.Add(-time.Hour).Format("15:04") + `", to: "` + there.Add(time.Hour).Format("15:04") + `", time_zone: Asia/Kathmandu}
`}, nil, "--policies", "/data/freeze.yaml")
	response := s.evict(pod)
	if response.Allowed || response.Result.Code != http.StatusTooManyRequests || !strings.Contains(response.Result.Message, "freeze window here") {
		t.Errorf("not held: %v", response)
	}
}

const holdAll = `# METADATA
# title: Hold all
# description: Holds every pod.
# custom: {id: hold_all, enforcement: enforce}
package eviction.hold_all

delay contains {"reason": "all pods wait", "detail": {}} if input.request.name != ""
`

// A system's roots come before the embedded ones: those that a pod mounts are trusted, and others are not.
func TestBundlesOverHTTPS(t *testing.T) {
	body := tarball(t, "hold.rego", holdAll)
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	t.Cleanup(web.Close)
	roots := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}))
	files := map[string]string{"roots.pem": roots}

	t.Run("from a server whose CA is mounted", func(t *testing.T) {
		s := serve(t, files, []string{"SSL_CERT_FILE=/data/roots.pem"}, "--policies", web.URL+"/bundle.tar.gz")
		s.eventually("the bundle holds the pod", func() bool {
			response := s.evict(pod)
			return !response.Allowed && strings.Contains(response.Result.Message, "all pods wait")
		})
	})
	t.Run("from a server that nobody knows", func(t *testing.T) {
		s := serve(t, files, nil, "--policies", web.URL+"/bundle.tar.gz")
		s.eventually("it says why the bundle is refused", func() bool {
			return strings.Contains(s.log.String(), "x509: certificate signed by unknown authority")
		})
	})
}

func tarball(t *testing.T, name, text string) []byte {
	t.Helper()
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zipped)
	must(t, archive.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Typeflag: tar.TypeReg, Size: int64(len(text))}))
	_, err := archive.Write([]byte(text))
	must(t, err)
	must(t, archive.Close())
	must(t, zipped.Close())
	return packed.Bytes()
}

// The store needs its own directory, and no other to write to.
func TestTheStoreNeedsNoTemporaryDirectory(t *testing.T) {
	s := serve(t, nil, nil, "--store", "sqlite:/scratch/records.db")
	s.evict(pod)
	s.evict("api-7d4b9c6f5-4c8tr")
	s.terminate()
	for _, args := range [][]string{{"review", "list"}, {"review", "stats"}, {"review", "stuck"}} {
		command := inside{
			Writable: map[string]string{"/scratch": s.work},
			Args:     append(args, "--store", "sqlite:/scratch/records.db", "-o", "json"),
		}.command(t)
		out, err := command.CombinedOutput()
		if command.ProcessState.ExitCode() > 1 || !strings.Contains(string(out), "shop") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// lockedBuffer is written by one process and read by the test.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// A bundle from a registry is unpacked on disk, and nothing in the image can be written.
func TestBundlesFromARegistryNeedADirectory(t *testing.T) {
	const bundle = "oci://127.0.0.1:1/policies:v1" // nobody is there
	t.Run("without one it says so, and ends", func(t *testing.T) {
		s := serve(t, nil, nil, "--policies", bundle)
		exit := &exec.ExitError{}
		if err := s.wait(); !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(s.log.String(), "give a cache directory or a writable /tmp") {
			t.Errorf("%v: %s", err, s.log)
		}
	})
	t.Run("a cache suffices", func(t *testing.T) {
		s := serve(t, nil, nil, "--policies", bundle, "--bundle-cache", "/scratch/bundles")
		s.eventually("it asks the registry", func() bool { return strings.Contains(s.log.String(), "connection refused") })
	})
}
