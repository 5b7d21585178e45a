//go:build linux

package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestExpand(t *testing.T) {
	env := map[string]string{"A": "1", "B": ""}
	for text, want := range map[string]string{
		"$(A)-$(A)": "1-1", "x$(B)y": "xy", "$(C)": "$(C)", "$$(A)": "$(A)", "$A $": "$A $", "$(A": "$(A", "": "",
	} {
		if got := expand(text, env); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func TestWhom(t *testing.T) {
	number := func(n int64) *int64 { return &n }
	cases := map[string]struct {
		pod       corev1.PodSecurityContext
		container corev1.SecurityContext
		user      string
		want      identity
		err       string
	}{
		"the image's user":                          {user: "65532:65533", want: identity{uid: 65532, gid: 65533}},
		"the pod's user before the image's":         {user: "1:1", pod: corev1.PodSecurityContext{RunAsUser: number(2)}, want: identity{uid: 2}},
		"the container's user before the pod's":     {pod: corev1.PodSecurityContext{RunAsUser: number(2), RunAsGroup: number(3)}, container: corev1.SecurityContext{RunAsUser: number(4)}, want: identity{uid: 4, gid: 3}},
		"groups of the pod":                         {pod: corev1.PodSecurityContext{RunAsUser: number(2), FSGroup: number(9), SupplementalGroups: []int64{8}}, want: identity{uid: 2, groups: []int64{8, 9}}},
		"root by the image where it must not be":    {pod: corev1.PodSecurityContext{RunAsNonRoot: new(true)}, err: "container has runAsNonRoot and image will run as root"},
		"root by the pod where it must not be":      {pod: corev1.PodSecurityContext{RunAsNonRoot: new(true), RunAsUser: number(0)}, user: "5", err: "container's runAsUser breaks non-root policy"},
		"a user by name, which nobody looks up":     {user: "nobody", err: "image has a user that is not a number (nobody), which is not supported"},
		"a user by name that the pod replaces":      {user: "nobody", container: corev1.SecurityContext{RunAsUser: number(4)}, want: identity{uid: 4}},
		"nobody says anything, and root is allowed": {want: identity{}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: &c.pod}}
			got, err := whom(pod, &corev1.Container{SecurityContext: &c.container}, &image{config: v1.Config{User: c.user}})
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("got %v, want %s", err, c.err)
				}
				return
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(identity{})); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}

func TestCommandLine(t *testing.T) {
	img := &image{config: v1.Config{Entrypoint: []string{"/run"}, Cmd: []string{"default"}}}
	cases := map[string]struct {
		container corev1.Container
		want      []string
	}{
		"the image's own":                  {want: []string{"/run", "default"}},
		"arguments replace the image's":    {container: corev1.Container{Args: []string{"$(A)"}}, want: []string{"/run", "1"}},
		"a command leaves nothing of it":   {container: corev1.Container{Command: []string{"/x"}}, want: []string{"/x"}},
		"a command with its own arguments": {container: corev1.Container{Command: []string{"/x"}, Args: []string{"y"}}, want: []string{"/x", "y"}},
	}
	for name, c := range cases {
		if diff := cmp.Diff(c.want, commandLine(&c.container, img, map[string]string{"A": "1"})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestResourceFieldRoundsUp(t *testing.T) {
	c := &corev1.Container{Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("1500m"), corev1.ResourceMemory: resource.MustParse("65Mi"),
	}}}
	for name, want := range map[string]string{"limits.cpu": "2", "limits.memory": "68157440", "requests.cpu": "8"} {
		if got := resourceField(c, &corev1.ResourceFieldSelector{Resource: name}); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if got := resourceField(c, &corev1.ResourceFieldSelector{Resource: "limits.memory", Divisor: resource.MustParse("10Mi")}); got != "7" {
		t.Errorf("got %s tens of Mi, want 7", got)
	}
}

func TestPhase(t *testing.T) {
	running := corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	ended := func(code int32) corev1.ContainerStatus {
		return corev1.ContainerStatus{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}}
	}
	cases := map[string]struct {
		policy   corev1.RestartPolicy
		statuses []corev1.ContainerStatus
		dying    bool
		want     corev1.PodPhase
	}{
		"nothing has begun":                        {statuses: []corev1.ContainerStatus{{}}, want: corev1.PodPending},
		"one runs":                                 {statuses: []corev1.ContainerStatus{running, {}}, want: corev1.PodRunning},
		"it ended and is started again":            {policy: corev1.RestartPolicyAlways, statuses: []corev1.ContainerStatus{ended(0)}, want: corev1.PodRunning},
		"it ended well and stays ended":            {policy: corev1.RestartPolicyOnFailure, statuses: []corev1.ContainerStatus{ended(0)}, want: corev1.PodSucceeded},
		"it failed and stays ended":                {policy: corev1.RestartPolicyNever, statuses: []corev1.ContainerStatus{ended(1)}, want: corev1.PodFailed},
		"one of two goes on":                       {policy: corev1.RestartPolicyNever, statuses: []corev1.ContainerStatus{ended(1), running}, want: corev1.PodRunning},
		"it was told to end since the pod must go": {policy: corev1.RestartPolicyAlways, statuses: []corev1.ContainerStatus{ended(0)}, dying: true, want: corev1.PodSucceeded},
	}
	for name, c := range cases {
		if got := phase(c.policy, c.statuses, c.dying); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

func TestBackOffDoublesToFiveMinutes(t *testing.T) {
	var got []time.Duration
	for n := range 8 {
		got = append(got, backOff(10*time.Second, n)/time.Second)
	}
	if diff := cmp.Diff([]time.Duration{0, 10, 20, 40, 80, 160, 300, 300}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRefusals(t *testing.T) {
	pod := func(change func(*corev1.PodSpec)) *corev1.Pod {
		p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main"}}}}
		change(&p.Spec)
		return p
	}
	if what := refusal(pod(func(*corev1.PodSpec) {})); what != "" {
		t.Errorf("an ordinary pod is refused: %s", what)
	}
	for want, p := range map[string]*corev1.Pod{
		"host's namespaces":             pod(func(s *corev1.PodSpec) { s.HostNetwork = true }),
		"init and ephemeral containers": pod(func(s *corev1.PodSpec) { s.InitContainers = []corev1.Container{{}} }),
		"readiness gates":               pod(func(s *corev1.PodSpec) { s.ReadinessGates = []corev1.PodReadinessGate{{}} }),
		"volume v: only": pod(func(s *corev1.PodSpec) {
			s.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{}}}}
		}),
		"privileges beyond": pod(func(s *corev1.PodSpec) {
			s.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
		}),
		"only HTTP and TCP probes": pod(func(s *corev1.PodSpec) {
			s.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{}}}
		}),
	} {
		if got := refusal(p); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAVolumeIsSwappedInOneStep(t *testing.T) {
	dir := t.TempDir()
	check(t, swap(dir, map[string]file{"a": {content: []byte("1"), mode: 0o644}, "sub/b": {content: []byte("1"), mode: 0o400}}, nil))
	first, err := os.Readlink(filepath.Join(dir, "..data"))
	check(t, err)
	held, err := os.Open(filepath.Join(dir, "a"))
	check(t, err)
	defer func() { _ = held.Close() }()
	check(t, swap(dir, map[string]file{"c": {content: []byte("2"), mode: 0o644}, "sub/b": {content: []byte("2"), mode: 0o400}}, nil))
	second, err := os.Readlink(filepath.Join(dir, "..data"))
	check(t, err)
	if first == second {
		t.Error("..data points where it did")
	}
	if got := read(filepath.Join(dir, "sub", "b")) + read(filepath.Join(dir, "c")); got != "22" {
		t.Errorf("got %q", got)
	}
	for _, old := range []string{"a", first, "..data_tmp"} {
		if _, err := os.Lstat(filepath.Join(dir, old)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", old, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "sub", "b")); err != nil || info.Mode() != 0o400 {
		t.Errorf("sub/b: %v %v", info.Mode(), err)
	}
}

func TestTail(t *testing.T) {
	for lines, want := range map[int]string{0: "", 1: "b\n", 2: "a\nb\n", 9: "a\nb\n"} {
		if got := tail("a\nb\n", lines); got != want {
			t.Errorf("%d lines are %q, want %q", lines, got, want)
		}
	}
}
