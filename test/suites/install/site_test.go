//go:build linux

// Package install does what a new user does: it follows the commands of the README and of docs/ word for word, with the real
// kubectl, the image of `make image` and the manifests of config/, on a real control plane whose nodes run
// the containers (package node). Evictions flow meanwhile.
package install

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/test/harness/node"
	"github.com/evictgate/evictgate/test/harness/skip"
)

const (
	workers = 3
	root    = "../../.."
	// image is how docs/install.md calls it.
	image = "registry.example.com/evictgate"
	ours  = "evictgate"
)

// site is a cluster and the directory in which its administrator works.
type site struct {
	plane   *kube.ControlPlane
	agent   *node.Agent
	network *node.Network
	dir     string // of the test run
	bin     string
}

// shared is what all tests use, one after the other: an installation takes the whole cluster.
var shared *site

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	if len(missing()) > 0 {
		return m.Run() // every test says so by name
	}
	s := &site{}
	err := s.open()
	code := 1
	if err == nil {
		shared = s
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	if err := s.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// missing says what the tests need and this machine lacks.
func missing() []string {
	list := slices.Concat(kube.Missing(), node.Missing())
	if _, err := os.Stat(filepath.Join(root, "bin", "image", "index.json")); err != nil {
		list = append(list, "bin/image (make image)")
	}
	if _, err := exec.LookPath("openssl"); err != nil { // which docs/certificates.md runs
		list = append(list, "openssl")
	}
	return list
}

// begin gives a test the site, and config/ as it is in the tree.
func begin(t *testing.T, programs ...string) *site {
	t.Helper()
	skip.Without(t, missing()...)
	if len(programs) > 0 {
		kube.Need(t, programs...)
	}
	check(t, os.RemoveAll(filepath.Join(shared.dir, "config")))
	check(t, os.CopyFS(filepath.Join(shared.dir, "config"), os.DirFS(filepath.Join(root, "config"))))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(shared.state())
		}
		if err := shared.clean(context.Background()); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return shared
}

func (s *site) open() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if s.dir, err = os.MkdirTemp("", "evictgate-install-"); err != nil {
		return err
	}
	kubectl, _ := kube.Program("kubectl")
	if s.bin, err = filepath.Abs(filepath.Dir(kubectl)); err != nil {
		return err
	}
	// A copy, since somebody may build the image again meanwhile.
	if err := os.CopyFS(s.image(), os.DirFS(filepath.Join(root, "bin", "image"))); err != nil {
		return err
	}
	newer, err := s.newerImage(ctx)
	if err != nil {
		return err
	}
	if s.network, err = node.NewNetwork(); err != nil {
		return err
	}
	if err := os.WriteFile(s.admission(), []byte(noAdmission), 0o600); err != nil {
		return err
	}
	s.plane, err = kube.Start(ctx, kube.Options{
		Address: s.network.Gateway(), Nodes: 2, Controllers: true, Scheduler: true, Kwok: true, OtherNodes: true,
		APIServerArgs: []string{"--admission-control-config-file=" + s.admission()},
	})
	if err != nil {
		return err
	}
	s.agent, err = node.Start(ctx, node.Options{Network: s.network, Config: s.plane.Config, Nodes: workers, Images: map[string]string{
		"evictgate:dev": s.image(), image + ":1.0.0": s.image(), image + ":1.1.0": newer,
	}})
	if err != nil {
		return err
	}
	return s.workload(ctx)
}

// workload is what is evicted. It lives on kwok's nodes, which have no containers and are closed to others.
func (s *site) workload(ctx context.Context) error {
	if _, stderr, err := s.plane.Kubectl(ctx, "label", "nodes", "node-1", "node-2", "example.com/kwok=yes"); err != nil {
		return fmt.Errorf("%w: %s", err, stderr)
	}
	if _, stderr, err := s.plane.Kubectl(ctx, "taint", "nodes", "node-1", "node-2", "example.com/kwok=yes:NoSchedule"); err != nil {
		return fmt.Errorf("%w: %s", err, stderr)
	}
	if err := s.plane.Apply(ctx, workload); err != nil {
		return err
	}
	_, err := s.plane.WaitReady(ctx, "default", "web")
	return err
}

// held is annotated with what the default policies heed.
const workload = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 12
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: &spec
      nodeSelector: {example.com/kwok: "yes"}
      tolerations: [{key: example.com/kwok, operator: Exists}]
      containers: [{name: main, image: "example.com/web:1"}]
---
apiVersion: v1
kind: Pod
metadata: {name: held, namespace: default, annotations: {karpenter.sh/do-not-disrupt: "true"}}
spec:
  nodeSelector: {example.com/kwok: "yes"}
  tolerations: [{key: example.com/kwok, operator: Exists}]
  containers: [{name: main, image: "example.com/held:1"}]
`

// newerImage is the image with a program of another version.
func (s *site) newerImage(ctx context.Context) (string, error) {
	program := filepath.Join(s.dir, "bin", "evictgate") // where docs/install.md has it
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -X main.version=1.1.0", "-o", program, "./cmd/evictgate")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build evictgate: %w\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "evictgate", Mode: 0o755, Size: int64(len(content))}); err != nil {
		return "", err
	}
	if _, err := w.Write(content); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return s.addLayer(archive.Bytes())
}

// image is the layout of the image as make image built it.
func (s *site) image() string { return filepath.Join(s.dir, "image") }

// noAdmission configures nothing.
const noAdmission = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n"

// admission is the API server's AdmissionConfiguration, noAdmission until a test writes another and restarts it.
func (s *site) admission() string { return filepath.Join(s.dir, "admission.yaml") }

// addLayer puts an archive on top of it, into a layout of its own.
func (s *site) addLayer(archive []byte) (string, error) {
	index, err := layout.ImageIndexFromPath(s.image())
	if err != nil {
		return "", err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return "", err
	}
	below, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		return "", err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil })
	if err != nil {
		return "", err
	}
	newer, err := mutate.AppendLayers(below, layer)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(s.dir, "newer")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return "", err
	}
	return dir, path.AppendImage(newer)
}

func (s *site) close() error {
	var errs []error
	if s.agent != nil {
		errs = append(errs, s.agent.Stop())
	}
	if s.plane != nil {
		errs = append(errs, s.plane.Stop())
	}
	if s.network != nil {
		errs = append(errs, s.network.Close())
	}
	for _, err := range append(errs, os.RemoveAll(s.dir)) {
		if err != nil {
			return err
		}
	}
	return nil
}

// nameImage does what docs/install.md says about images, to a kustomization.
func (s *site) nameImage(t *testing.T, kustomization string) {
	t.Helper()
	path := filepath.Join(s.dir, kustomization)
	text, err := os.ReadFile(path)
	check(t, err)
	check(t, os.WriteFile(path, append(text, block(t, "images", "yaml")...), 0o600))
}

// replicas are evictgate's pods that are not terminating.
func (s *site) replicas(t *testing.T) []corev1.Pod {
	t.Helper()
	list, err := s.plane.Client.CoreV1().Pods(ours).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=evictgate"})
	check(t, err)
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
}

func ready(p corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// state is what somebody looks at when an installation does not work.
func (s *site) state() string {
	var all strings.Builder
	for _, args := range [][]string{
		{"get", "pods,secrets,events", "-n", ours, "-o", "wide"},
		{"describe", "pods", "-n", ours},
		{"logs", "-n", ours, "-l", "app.kubernetes.io/name=evictgate", "--tail=15", "--prefix"},
	} {
		out, stderr, _ := s.plane.Kubectl(context.Background(), args...)
		fmt.Fprintf(&all, "$ kubectl %s\n%s%s\n", strings.Join(args, " "), out, stderr)
	}
	return all.String()
}

// clean removes an installation, so that a test that failed leaves nothing to the next. Pods go first: a
// namespace that finds pods terminating looks again only after half a minute.
func (s *site) clean(ctx context.Context) error {
	for _, args := range [][]string{
		{"delete", "validatingwebhookconfiguration,clusterrole,clusterrolebinding", "-l", "app.kubernetes.io/name=evictgate"},
		{"delete", "deployment/evictgate", "-n", ours, "--cascade=foreground", "--timeout=60s"},
		{"delete", "pods", "--all", "-n", ours, "--force", "--grace-period=0"},
		{"delete", "namespace/evictgate", "crd/evictionpolicies.evictgate.dev", "--timeout=60s"},
	} {
		if _, stderr, err := s.plane.Kubectl(ctx, append(args, "--ignore-not-found")...); err != nil {
			return fmt.Errorf("%w: %s", err, stderr)
		}
	}
	return nil
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
