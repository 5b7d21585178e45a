// Package doctor breaks an installation on a real control plane in many ways, asks evictgate doctor what is
// wrong, and fixes it as doctor says.
//
// The installation is config/default, but for the Service's selector. There is no kubelet: kwok plays the pods, and the replicas run on this
// machine, each at an address of its own (of a range that is for documentation, RFC 5737) and under the host name
// of its pod. So the API server calls the Service, its EndpointSlice and three replicas as in any cluster.
package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/test/harness/privilege"
	"github.com/evictgate/evictgate/test/harness/skip"
	findings "github.com/evictgate/evictgate/webhook/install/doctor"
)

const (
	namespace = "evictgate"
	port      = 9443
)

var addresses = []string{"192.0.2.201", "192.0.2.202", "192.0.2.203"}

var (
	plane    *kube.ControlPlane
	binary   string
	replicas []*replica
	missing  string // why no test runs
)

func TestMain(m *testing.M) {
	if missing = cannotRun(); missing != "" {
		os.Exit(m.Run())
	}
	os.Exit(gate.Main(m, install))
}

// cannotRun says what is missing on this machine.
func cannotRun() string {
	if list := kube.Missing(); len(list) > 0 {
		return "not built: " + strings.Join(list, ", ") + "; run make controlplane"
	}
	if lack := privilege.Missing(); lack != "" {
		return "to give this machine further addresses, missing: " + lack
	}
	for _, program := range []string{"unshare", "hostname"} {
		if _, err := exec.LookPath(program); err != nil {
			return "needs the program " + program
		}
	}
	return ""
}

// installed skips a test that cannot run, and leaves a whole installation to the next one.
func installed(t *testing.T) {
	t.Helper()
	if missing != "" {
		skip.Without(t, missing)
	}
}

func install(ctx context.Context, s *gate.Setup) (err error) {
	binary = s.Binary
	plane, err = s.ControlPlane(ctx, kube.Options{
		Controllers: true, Scheduler: true, Kwok: true, Nodes: 3,
		APIServerArgs: []string{"--enable-aggregator-routing=true"}, // there is no kube-proxy
	})
	if err != nil {
		return err
	}
	s.Cleanup(uninstall)
	for _, address := range addresses {
		if out, err := exec.Command("ip", "address", "replace", address+"/32", "dev", "lo").CombinedOutput(); err != nil {
			return fmt.Errorf("add address: %w: %s", err, out)
		}
	}
	if _, stderr, err := plane.Kubectl(ctx, "apply", "-k", "installation"); err != nil {
		return fmt.Errorf("%w: %s", err, stderr)
	}
	if err := connect(ctx); err != nil {
		return err
	}
	pods, err := readyPods(ctx)
	if err != nil {
		return err
	}
	for i, pod := range pods {
		r := &replica{name: pod, address: addresses[i], dir: s.Dir}
		replicas = append(replicas, r)
		if err := r.start(); err != nil {
			return err
		}
	}
	for _, r := range replicas {
		if err := r.ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

func connect(ctx context.Context) error {
	endpoints := make([]discoveryv1.Endpoint, len(addresses))
	for i, address := range addresses {
		endpoints[i] = discoveryv1.Endpoint{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}
	}
	_, err := plane.Client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "evictgate-here", Labels: map[string]string{discoveryv1.LabelServiceName: "evictgate"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints,
		Ports: []discoveryv1.EndpointPort{{Name: new("webhook"), Port: new(int32(port)), Protocol: new(corev1.ProtocolTCP)}},
	}, metav1.CreateOptions{})
	return err
}

// readyPods names the pods of the Deployment, once all are ready.
func readyPods(ctx context.Context) ([]string, error) {
	var names []string
	err := kube.Wait(ctx, "three pods to be ready", func(ctx context.Context) (bool, error) {
		list, err := plane.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=evictgate"})
		if err != nil {
			return false, err
		}
		names = nil
		for _, p := range list.Items {
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil {
					names = append(names, p.Name)
				}
			}
		}
		return len(names) == 3, nil
	})
	return names, err
}

func uninstall() {
	for _, r := range replicas {
		r.stop()
	}
	for _, address := range addresses {
		_ = exec.Command("ip", "address", "del", address+"/32", "dev", "lo").Run()
	}
}

// replica is a process of the program that stands for a pod.
type replica struct {
	name, address, dir string
	args               []string // instead of the manifests' policies
	command            *exec.Cmd
}

func (r *replica) start() error {
	args := r.args
	if args == nil {
		args = []string{"--policies=default", "--policies=cluster"}
	}
	log, err := os.Create(filepath.Join(r.dir, r.name+".log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	serve := append([]string{
		binary, "serve", "--kubeconfig", plane.Kubeconfig, "--cert-namespace", namespace, "--own-configuration=true", "--shutdown-delay", "0s",
		"--listen", net.JoinHostPort(r.address, fmt.Sprint(port)), "--health-listen", r.address + ":8081", "--metrics-listen", "0",
	}, args...)
	// The shell becomes the program, so that signals reach it.
	r.command = exec.Command("unshare", append([]string{"--uts", "sh", "-c", `hostname "$0" && exec "$@"`, r.name}, serve...)...)
	r.command.Stderr = log
	r.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return r.command.Start()
}

func (r *replica) ready(ctx context.Context) error {
	return kube.Wait(ctx, "replica "+r.name+" to be ready", func(ctx context.Context) (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.address+":8081/readyz", nil)
		if err != nil {
			return false, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, errors.Join(err, errors.New(r.log()))
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK, errors.New(r.log())
	})
}

func (r *replica) log() string {
	raw, _ := os.ReadFile(filepath.Join(r.dir, r.name+".log"))
	return string(raw)
}

func (r *replica) stop() {
	if r.command == nil || r.command.Process == nil {
		return
	}
	_ = r.command.Process.Signal(syscall.SIGCONT)
	_ = r.command.Process.Kill()
	_ = r.command.Wait()
	r.command = nil
}

func (r *replica) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := r.command.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// restart brings a replica back and waits until it is ready.
func (r *replica) restart(t *testing.T, args ...string) {
	t.Helper()
	r.stop()
	r.args = args
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	if err := r.ready(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// report is what doctor says.
type report struct {
	Namespace          string
	Problems, Warnings int
	NotChecked         int `json:"not_checked"`
	Findings           []findings.Finding
	code               int
}

// ask runs evictgate doctor.
func ask(t *testing.T, args ...string) report {
	t.Helper()
	out, stderr, code := program(t, append([]string{"doctor", "--kubeconfig", plane.Kubeconfig, "-o", "json"}, args...)...)
	if code == 2 || stderr != "" {
		t.Fatalf("exit %d: %s%s", code, stderr, out)
	}
	r := report{code: code}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return r
}

func program(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // a cleanup asks, too
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// find is the finding of a check with that text.
func (r report) find(check string, status findings.Status, text string) *findings.Finding {
	for i, f := range r.Findings {
		if f.Check == check && f.Status == status && strings.Contains(f.Text, text) {
			return &r.Findings[i]
		}
	}
	return nil
}

// wants fails without such a finding.
func (r report) wants(t *testing.T, check string, status findings.Status, text string) findings.Finding {
	t.Helper()
	if f := r.find(check, status, text); f != nil {
		return *f
	}
	t.Errorf("no finding %q of %s with %q in:\n%s", status, check, text, r)
	return findings.Finding{}
}

func (r report) String() string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%-12s %-28s %s\n", f.Status, f.Check, f.Text)
		if f.Cure != "" {
			fmt.Fprintf(&b, "%42s-> %s\n%42s$ %s\n", "", f.Cure, "", f.Command)
		}
	}
	return b.String()
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, stderr, err := plane.Kubectl(context.Background(), args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	return out
}

// run runs a command that doctor says, as its reader would.
func run(t *testing.T, command string) {
	t.Helper()
	fields := strings.Fields(strings.ReplaceAll(command, "-k config/default", "-k installation"))
	if len(fields) == 0 || fields[0] != "kubectl" {
		t.Fatalf("no command that can be run: %q", command)
	}
	kubectl(t, fields[1:]...)
}

// healthy waits until nothing is wrong any more.
func healthy(t *testing.T) report {
	t.Helper()
	last, err := until(context.Background(), t, func(r report) bool { return r.code == 0 }) // a cleanup asks, too
	if err != nil {
		t.Fatalf("%v\n%s", err, last)
	}
	return last
}
