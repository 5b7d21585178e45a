//go:build linux

package install

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/webhook/record"
)

// TestWithoutCertManager takes one installation with its own CA from the first command of docs/install.md to its last.
func TestWithoutCertManager(t *testing.T) {
	s := begin(t)
	s.nameImage(t, "config/default/kustomization.yaml")
	s.follow(t, "self")
	s.follow(t, "check")
	s.threeReady(t, "1.0.0")
	s.refusalIsRecorded(t)

	t.Run("a rolling restart leaves no eviction without a decision", func(t *testing.T) {
		f := s.flow(t)
		s.must(t, "kubectl -n evictgate rollout restart deployment/evictgate && kubectl -n evictgate rollout status deployment/evictgate --timeout=2m")
		s.onlyReady(t, 3)
		s.allHeard(t, f)
		if n := f.allDecided(t); len(n.replicas) < 4 {
			t.Errorf("only %d replicas decided", len(n.replicas))
		}
	})

	t.Run("nor does an upgrade", func(t *testing.T) {
		before := s.replicas(t)
		f := s.flow(t)
		s.must(t, `sed -i 's/newTag: "1.0.0"/newTag: "1.1.0"/' config/default/kustomization.yaml`)
		s.follow(t, "upgrade")
		s.onlyReady(t, 3)
		after := s.allHeard(t, f)
		f.allDecided(t)
		s.threeReady(t, "1.1.0")
		for _, p := range after {
			if slices.ContainsFunc(before, func(old corev1.Pod) bool { return old.Name == p.Name }) {
				t.Errorf("replica %s was there before the upgrade", p.Name)
			}
		}
		if version := s.recordOf(t, s.replicas(t)).Labels["version"]; version != "1.1.0" {
			t.Errorf("the records are of version %q", version)
		}
	})

	t.Run("the nodes that it runs on can be drained", func(t *testing.T) {
		f := s.flow(t)
		for _, name := range s.agent.Nodes() {
			began := time.Now()
			out := s.must(t, "kubectl drain "+name+" --ignore-daemonsets --timeout=60s")
			if !strings.Contains(out, "evicting pod evictgate/") || !strings.Contains(out, "node/"+name+" drained") {
				t.Errorf("kubectl drain %s: %s", name, out)
			}
			t.Logf("%s drained in %s", name, time.Since(began).Round(time.Second))
			s.must(t, "kubectl uncordon "+name)
		}
		s.onlyReady(t, 3)
		f.allDecided(t)
	})

	t.Run("it is removed without an eviction that fails, and leaves nothing", func(t *testing.T) {
		f := s.flow(t)
		time.Sleep(500 * time.Millisecond)
		began := time.Now()
		s.follow(t, "remove")
		s.nothingLeft(t)
		f.allDecidedUntil(t, began)
	})

	t.Run("installed again, it goes with its namespace alone, and no eviction fails", func(t *testing.T) {
		s.follow(t, "self")
		s.follow(t, "check")
		s.onlyReady(t, 3)
		f := s.flow(t)
		time.Sleep(500 * time.Millisecond)
		began := time.Now()
		s.must(t, "kubectl delete namespace evictgate --timeout=2m")
		check(t, kube.Wait(t.Context(), "the webhook configuration to go", func(ctx context.Context) (bool, error) {
			_, err := s.plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, ours, metav1.GetOptions{})
			return apierrors.IsNotFound(err), err
		}))
		t.Logf("all was gone after %s", time.Since(began).Round(time.Second))
		f.allDecidedUntil(t, began)
	})
}

// TestFailurePolicy takes all replicas away, on purpose: with the overlay evictions pass, and with the default
// they are refused. It also shows that the counting of the other tests can fail.
func TestFailurePolicy(t *testing.T) {
	s := begin(t)
	c := newClient(t, s.plane.Config)
	s.must(t, "kubectl apply -k config/overlays/ignore && kubectl -n evictgate rollout status deployment/evictgate --timeout=2m")
	if a := c.evict(t.Context(), "default", "held", true); a.decided == nil {
		t.Errorf("no replica was asked: %v", a.err)
	}
	s.must(t, "kubectl -n evictgate scale deployment/evictgate --replicas=0")
	check(t, kube.Wait(t.Context(), "an eviction to pass while nobody answers", func(ctx context.Context) (bool, error) {
		a := c.evict(ctx, "default", "held", true)
		return a.decided == nil && a.err == nil, a.err
	}))

	s.must(t, "kubectl apply -k config/default && kubectl -n evictgate scale deployment/evictgate --replicas=0")
	check(t, kube.Wait(t.Context(), "an eviction to be refused while nobody answers", func(ctx context.Context) (bool, error) {
		a := c.evict(ctx, "default", "held", true)
		refused := apierrors.IsInternalError(a.err) && strings.Contains(a.err.Error(), `failed calling webhook "evictions.evictgate.dev"`)
		if refused && count([]answer{a}).failed != 1 {
			t.Error("a failure is not counted as one")
		}
		return refused, a.err
	}))
	if a := c.evict(t.Context(), ours, "nobody", true); !apierrors.IsNotFound(a.err) {
		t.Errorf("an eviction in our own namespace is not exempt: %v", a.err)
	}
}

// TestWithCertManager installs with a certificate that cert-manager's own controllers issue, and takes it
// away.
func TestWithCertManager(t *testing.T) {
	s := begin(t, "certmanager")
	s.certManager(t)
	s.nameImage(t, "config/overlays/certmanager/kustomization.yaml")
	s.follow(t, "certmanager")
	s.follow(t, "check")
	s.threeReady(t, "1.0.0")
	s.refusalIsRecorded(t)
	if issuer := s.issuer(t); issuer != "evictgate-ca" {
		t.Errorf("the certificate is of %s", issuer)
	}

	t.Run("a rolling restart leaves no eviction without a decision", func(t *testing.T) {
		f := s.flow(t)
		s.must(t, "kubectl -n evictgate rollout restart deployment/evictgate && kubectl -n evictgate rollout status deployment/evictgate --timeout=2m")
		f.allDecided(t)
	})

	t.Run("the webhook configuration belongs to nobody, since the service account may not write it", func(t *testing.T) {
		c, err := s.plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), ours, metav1.GetOptions{})
		check(t, err)
		if len(c.OwnerReferences) > 0 {
			t.Errorf("owners are %v", c.OwnerReferences)
		}
		out, _ := s.shell(t.Context(), "kubectl auth can-i patch validatingwebhookconfigurations/evictgate --as=system:serviceaccount:evictgate:evictgate || true")
		if !strings.HasSuffix(strings.TrimSpace(out), "no") {
			t.Errorf("may it patch the configuration: %s", out)
		}
	})

	t.Run("it is removed without an eviction that fails, and leaves nothing", func(t *testing.T) {
		f := s.flow(t)
		time.Sleep(500 * time.Millisecond)
		began := time.Now()
		s.follow(t, "remove", "config/default", "config/overlays/certmanager")
		s.nothingLeft(t)
		f.allDecidedUntil(t, began)
	})
}

// TestChangeOfCertificates takes an installation from cert-manager to its own CA and back, and removes it.
func TestChangeOfCertificates(t *testing.T) {
	s := begin(t, "certmanager")
	s.certManager(t)
	s.nameImage(t, "config/default/kustomization.yaml")
	s.nameImage(t, "config/overlays/certmanager/kustomization.yaml")
	s.follow(t, "certmanager")
	s.onlyReady(t, 3)

	t.Run("to its own CA, which is nobody else's then", func(t *testing.T) {
		f := s.flow(t)
		s.follow(t, "change-back")
		s.onlyReady(t, 3)
		s.must(t, "kubectl -n evictgate delete secret evictgate-ca")
		check(t, kube.Wait(t.Context(), "a CA that cert-manager has not made", func(ctx context.Context) (bool, error) {
			secret, err := s.plane.Client.CoreV1().Secrets(ours).Get(ctx, "evictgate-ca", metav1.GetOptions{})
			return err == nil && secret.Annotations["cert-manager.io/certificate-name"] == "", err
		}))
		time.Sleep(5 * time.Second) // it is served
		f.allDecided(t)
		s.follow(t, "check")
	})

	t.Run("to cert-manager, and no eviction is without a decision", func(t *testing.T) {
		f := s.flow(t)
		s.follow(t, "change")
		s.onlyReady(t, 3)
		for _, p := range s.allHeard(t, f) {
			if !slices.Contains(p.Spec.Containers[0].Args, "--certs=files") {
				t.Errorf("replica %s is run with %q", p.Name, p.Spec.Containers[0].Args)
			}
		}
		f.allDecided(t)
		s.follow(t, "check")
	})

	t.Run("it is removed without an eviction that fails, and leaves nothing", func(t *testing.T) {
		f := s.flow(t)
		time.Sleep(500 * time.Millisecond)
		began := time.Now()
		s.follow(t, "remove", "config/default", "config/overlays/certmanager")
		s.nothingLeft(t)
		f.allDecidedUntil(t, began)
	})
}

// TestWithHelm installs the chart with the real helm, upgrades it, goes over to cert-manager and back, and takes it
// away again.
func TestWithHelm(t *testing.T) {
	s := begin(t, "helm", "certmanager")
	s.certManager(t)
	s.follow(t, "helm")
	s.follow(t, "check")
	s.threeReady(t, "1.0.0")

	f := s.flow(t)
	s.follow(t, "helm", "helm install", "helm upgrade", "image.tag=1.0.0", "image.tag=1.1.0")
	s.onlyReady(t, 3)
	f.allDecided(t)
	s.threeReady(t, "1.1.0")

	f = s.flow(t)
	s.follow(t, "helm-change")
	s.onlyReady(t, 3)
	f.allDecided(t)
	s.follow(t, "check")

	f = s.flow(t)
	s.must(t, "helm upgrade evictgate config/helm/evictgate --namespace evictgate --reuse-values --set certificates.mode=self && kubectl -n evictgate rollout status deployment/evictgate --timeout=2m")
	s.onlyReady(t, 3)
	f.allDecided(t)
	s.follow(t, "check")

	f = s.flow(t)
	time.Sleep(500 * time.Millisecond)
	began := time.Now()
	s.follow(t, "helm-remove")
	check(t, kube.Wait(t.Context(), "the replicas to go", func(ctx context.Context) (bool, error) {
		list, err := s.plane.Client.CoreV1().Pods(ours).List(ctx, metav1.ListOptions{})
		return err == nil && len(list.Items) == 0, err
	}))
	f.allDecidedUntil(t, began)
	s.must(t, "kubectl get crd evictionpolicies.evictgate.dev") // kept, as docs/install.md says
	s.must(t, "kubectl delete crd/evictionpolicies.evictgate.dev namespace/evictgate")
	s.nothingLeft(t)
}

// TestOnlyTheAPIServerMayCall follows docs/certificates.md until replicas ask who calls. The API server goes on
// showing its certificate in the tests after it, whose replicas do not ask.
func TestOnlyTheAPIServerMayCall(t *testing.T) {
	s := begin(t)
	s.nameImage(t, "config/default/kustomization.yaml")
	s.follow(t, "self")
	s.follow(t, "callers")
	for file, name := range map[string]string{s.admission(): "callers-admission", filepath.Join(s.dir, "callers.kubeconfig"): "callers-kubeconfig"} {
		text := strings.ReplaceAll(block(t, name, "yaml"), "/etc/kubernetes/evictgate", s.dir)
		check(t, os.WriteFile(file, []byte(text), 0o600))
	}
	check(t, s.plane.Restart(t.Context(), kube.APIServer))
	c := newClient(t, s.plane.Config)
	check(t, kube.Wait(t.Context(), "a decision after the restart", func(ctx context.Context) (bool, error) {
		a := c.evict(ctx, "default", "held", true)
		return a.decided != nil, a.err
	}))

	f := s.flow(t)
	s.follow(t, "callers-on")
	s.onlyReady(t, 3)
	replicas := s.allHeard(t, f)
	f.allDecided(t)
	s.follow(t, "check")
	for _, p := range replicas {
		if err := knock(t, p); err == nil || !strings.Contains(err.Error(), "certificate required") {
			t.Errorf("somebody without a certificate who calls replica %s: %v", p.Name, err)
		}
	}
}

// knock begins a connection to a replica without a certificate of its own, and returns how it ends.
func knock(t *testing.T, p corev1.Pod) error {
	t.Helper()
	ports := p.Spec.Containers[0].Ports
	i := slices.IndexFunc(ports, func(p corev1.ContainerPort) bool { return p.Name == "webhook" })
	conn, err := tls.Dial("tcp", fmt.Sprintf("%s:%d", p.Status.PodIP, ports[i].ContainerPort), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it is the server that checks
	check(t, err)
	defer func() { _ = conn.Close() }()
	check(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = conn.Read(make([]byte, 1)) // by TLS 1.3 the server looks at it after the client's part
	return err
}

// issuer is who signed the certificate that cert-manager made.
func (s *site) issuer(t *testing.T) string {
	t.Helper()
	secret, err := s.plane.Client.CoreV1().Secrets(ours).Get(t.Context(), "evictgate-tls", metav1.GetOptions{})
	check(t, err)
	block, _ := pem.Decode(secret.Data[corev1.TLSCertKey])
	if block == nil {
		t.Fatal("the Secret evictgate-tls holds no certificate")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	check(t, err)
	return certificate.Issuer.CommonName
}

// certManager starts cert-manager for the test, as somebody who has it installed.
func (s *site) certManager(t *testing.T) {
	t.Helper()
	program, _ := kube.Program("certmanager")
	crds, err := filepath.Abs(program + "-crds")
	check(t, err)
	s.must(t, "kubectl apply --server-side -f "+crds+" && kubectl wait --for=condition=Established --timeout=30s -f "+crds)
	log, err := os.Create(filepath.Join(s.dir, "certmanager.log"))
	check(t, err)
	cmd := exec.Command(program, "--kubeconfig", s.plane.Kubeconfig)
	cmd.Stdout, cmd.Stderr = log, log
	check(t, kube.Spawn(cmd))
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // it was told to end
		timer.Stop()
		_ = log.Close()
		if raw, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("cert-manager:\n%s", raw[max(0, len(raw)-4000):])
		}
		if out, err := s.shell(context.Background(), "kubectl delete -f "+crds+" --timeout=60s"); err != nil {
			t.Errorf("remove cert-manager's definitions: %v\n%s", err, out)
		}
	})
}

// threeReady holds an installation to what the manifests promise: three replicas of the version, each on a
// node of its own.
func (s *site) threeReady(t *testing.T, version string) {
	t.Helper()
	nodes := map[string]bool{}
	for _, p := range s.replicas(t) {
		if !ready(p) || p.Spec.Containers[0].Image != image+":"+version {
			t.Errorf("replica %s of %s: ready is %t", p.Name, p.Spec.Containers[0].Image, ready(p))
		}
		nodes[p.Spec.NodeName] = true
	}
	if len(nodes) != 3 {
		t.Errorf("the replicas run on the nodes %v, want three", nodes)
	}
}

// onlyReady waits until there are that many pods, all ready and none on its way out.
func (s *site) onlyReady(t *testing.T, n int) {
	t.Helper()
	check(t, kube.Wait(t.Context(), fmt.Sprintf("%d replicas alone", n), func(ctx context.Context) (bool, error) {
		list, err := s.plane.Client.CoreV1().Pods(ours).List(ctx, metav1.ListOptions{})
		return err == nil && len(list.Items) == n && !slices.ContainsFunc(list.Items, func(p corev1.Pod) bool { return !ready(p) }), err
	}))
}

// refusalIsRecorded: a client that is refused reads why, and one replica has a record of it.
func (s *site) refusalIsRecorded(t *testing.T) {
	t.Helper()
	out, err := s.shell(t.Context(), "kubectl drain -l example.com/kwok=yes --dry-run=server --force --timeout=1s")
	const sentence = "the pod is annotated karpenter.sh/do-not-disrupt=true"
	if err == nil || !strings.Contains(out, sentence) {
		t.Errorf("kubectl drain: %v\n%s", err, out)
	}
	if r := s.recordOf(t, s.replicas(t)); r.Request.Namespace != "default" || r.Request.Name != "held" {
		t.Errorf("the record is of %s/%s", r.Request.Namespace, r.Request.Name)
	}
}

// recordOf finds a record of the eviction of the pod held in the log of one of the replicas, as kubectl logs
// prints it.
func (s *site) recordOf(t *testing.T, replicas []corev1.Pod) (found record.Record) {
	t.Helper()
	check(t, kube.Wait(t.Context(), "a record of default/held", func(ctx context.Context) (bool, error) {
		for _, p := range replicas {
			log, stderr, err := s.plane.Kubectl(ctx, "-n", ours, "logs", p.Name)
			if err != nil {
				return false, fmt.Errorf("%w: %s", err, stderr)
			}
			for line := range strings.Lines(log) {
				var r record.Record
				if json.Unmarshal([]byte(line), &r) == nil && r.Request.Name == "held" {
					found = r
					return true, nil
				}
			}
		}
		return false, nil
	}))
	return found
}
