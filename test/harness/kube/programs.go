package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	// serviceRange is of this machine: no call of a Service leaves it, and whoever has 10.0.0.0/8 is left in peace.
	serviceRange   = "127.96.0.0/24"
	firstServiceIP = "127.96.0.1"
	loopback       = "127.0.0.1"
	serviceIssuer  = "https://kubernetes.default.svc"
	auditLog       = "audit.log"
	// kwokNode annotates the nodes that kwok plays, as kwok's own documentation has it.
	kwokNode = "kwok.x-k8s.io/node"
)

// auditPolicy keeps what a test of evictions asks for: each eviction once, when it was
// answered, and the API server's own writes to budgets.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: RequestResponse
  resources: [{group: "", resources: [pods/eviction]}]
- level: Metadata
  verbs: [update]
  resources: [{group: policy, resources: [poddisruptionbudgets/status]}]
- level: None
`

// ports are chosen once, so that a program that is restarted is found where it was.
type ports struct{ etcd, apiserver int }

// prepare makes the directory and everything in it that the programs read.
func prepare(o Options) (_ *ControlPlane, err error) {
	c := &ControlPlane{Dir: o.Dir, options: o, bin: binDir()}
	if c.bin, err = filepath.Abs(c.bin); err != nil {
		return nil, err
	}
	if c.options.Address == "" {
		c.options.Address = loopback
	}
	if err := c.makeDir(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && o.Dir == "" {
			err = errors.Join(err, os.RemoveAll(c.Dir))
		}
	}()
	free, err := FreePorts(2)
	if err != nil {
		return nil, err
	}
	c.ports = ports{etcd: free[0], apiserver: free[1]}
	if c.ca, err = newAuthority(); err != nil {
		return nil, err
	}
	if err := c.writeFiles(); err != nil {
		return nil, err
	}
	if c.Config, err = c.UserConfig("evictgate-test-admin", "system:masters"); err != nil {
		return nil, err
	}
	if c.Client, err = kubernetes.NewForConfig(c.Config); err != nil {
		return nil, err
	}
	c.spawner = newSpawner()
	return c, nil
}

func (c *ControlPlane) makeDir() (err error) {
	if c.Dir == "" {
		c.Dir, err = os.MkdirTemp("", "evictgate-kube-")
		return err
	}
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return err
	}
	return os.MkdirAll(c.Dir, 0o700)
}

func (c *ControlPlane) writeFiles() error {
	if err := c.ca.writePKI(c.Dir, net.ParseIP(c.options.Address)); err != nil {
		return err
	}
	if err := os.WriteFile(c.file("audit-policy.yaml"), []byte(auditPolicy), 0o600); err != nil {
		return err
	}
	c.Kubeconfig = c.file("admin.kubeconfig")
	// RBAC's built-in bindings know the controller manager and the scheduler by these names.
	// kwok plays every kubelet at once, which no built-in role allows.
	return errors.Join(
		c.writeKubeconfig(c.Kubeconfig, "evictgate-test-admin", "system:masters"),
		c.writeKubeconfig(c.file(ControllerManager+".kubeconfig"), "system:kube-controller-manager"),
		c.writeKubeconfig(c.file(Scheduler+".kubeconfig"), "system:kube-scheduler"),
		c.writeKubeconfig(c.file(Kwok+".kubeconfig"), "kwok", "system:masters"),
	)
}

func (c *ControlPlane) file(name string) string { return filepath.Join(c.Dir, name) }

func (c *ControlPlane) url() string {
	return fmt.Sprintf("https://%s:%d", c.options.Address, c.ports.apiserver)
}

// UserConfig makes a client configuration for any user and groups, by a client certificate.
// What the user may do is up to RBAC; only system:masters may do everything from the start.
func (c *ControlPlane) UserConfig(name string, groups ...string) (*rest.Config, error) {
	pair, err := c.ca.client(name, groups...)
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host:            c.url(),
		QPS:             -1, // no limit on this side
		TLSClientConfig: rest.TLSClientConfig{CAData: c.ca.pem(), CertData: pair.cert, KeyData: pair.key},
		WarningHandler:  rest.NoWarnings{},
	}, nil
}

func (c *ControlPlane) writeKubeconfig(path, user string, groups ...string) error {
	pair, err := c.ca.client(user, groups...)
	if err != nil {
		return err
	}
	const name = "evictgate-test"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: c.url(), CertificateAuthorityData: c.ca.pem()}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.cert, ClientKeyData: pair.key}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: user}
	config.CurrentContext = name
	return clientcmd.WriteToFile(*config, path)
}

// FreePorts chooses n ports below the range from which the kernel takes those of outgoing connections: a port
// of that range could be gone when a program is started, or restarted. No other test gets them, whether it runs
// in this process or beside it: their UDP ports are held until this process ends, and no program here needs those.
func FreePorts(n int) ([]int, error) {
	var found []int
	for range 200 {
		port := 20000 + rand.IntN(10000)
		if !hold(port) {
			continue
		}
		if found = append(found, port); len(found) == n {
			return found, nil
		}
	}
	return nil, errors.New("no free port between 20000 and 30000")
}

// held are the UDP ports that say which ports are given away; a socket that nobody refers to is closed.
var held struct {
	sync.Mutex
	ports []net.PacketConn
}

// hold takes the UDP port, if the TCP port is free at every address.
func hold(port int) bool {
	address := fmt.Sprintf(":%d", port)
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		_ = udp.Close()
		return false
	}
	_ = tcp.Close()
	held.Lock()
	defer held.Unlock()
	held.ports = append(held.ports, udp)
	return true
}

// FreeAddress is a free port at the loopback address.
func FreeAddress() (string, error) {
	found, err := FreePorts(1)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s:%d", loopback, found[0]), nil
}

// args are the arguments of a program.
func (c *ControlPlane) args(program string) []string {
	switch program {
	case Etcd:
		return c.etcdArgs()
	case APIServer:
		return c.apiServerArgs()
	case ControllerManager:
		return c.controllerManagerArgs()
	case Scheduler:
		return c.schedulerArgs()
	default:
		return c.kwokArgs()
	}
}

// etcdArgs trade safety for speed: nothing here outlives the machine. The peer address is
// never dialled, since there is one member.
func (c *ControlPlane) etcdArgs() []string {
	const peer = "http://127.0.0.1:1"
	client := fmt.Sprintf("http://127.0.0.1:%d", c.ports.etcd)
	return []string{
		"--name=default",
		"--data-dir=" + c.file("etcd"),
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=http://127.0.0.1:0",
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=default=" + peer,
		"--unsafe-no-fsync",
		"--heartbeat-interval=20",
		"--election-timeout=200",
		"--log-level=warn",
	}
}

// apiServerArgs leave admission, authorization and flow control as they are by default; what
// is off would wait for a program that does not run.
func (c *ControlPlane) apiServerArgs() []string {
	args := []string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", c.ports.etcd),
		"--bind-address=" + c.options.Address,
		fmt.Sprintf("--secure-port=%d", c.ports.apiserver),
		"--advertise-address=" + c.options.Address,
		"--endpoint-reconciler-type=none", // endpoints must not be loopback addresses
		"--tls-cert-file=" + c.file("server.crt"),
		"--tls-private-key-file=" + c.file("server.key"),
		"--client-ca-file=" + c.file("ca.crt"),
		"--authorization-mode=Node,RBAC",
		"--service-cluster-ip-range=" + serviceRange,
		"--service-account-issuer=" + serviceIssuer,
		"--service-account-key-file=" + c.file("service-account.key"),
		"--service-account-signing-key-file=" + c.file("service-account.key"),
		"--audit-policy-file=" + c.file("audit-policy.yaml"),
		"--audit-log-path=" + c.file(auditLog),
		"--audit-log-maxsize=100000",                   // in MB: never rotated
		"--shutdown-watch-termination-grace-period=1s", // else open watches hold up a restart
	}
	if !c.options.Controllers {
		args = append(args, "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition")
	}
	if c.options.Address != loopback {
		args = append(args, "--enable-aggregator-routing=true")
	}
	return append(args, c.options.APIServerArgs...)
}

func (c *ControlPlane) controllerManagerArgs() []string {
	return []string{
		"--kubeconfig=" + c.file(ControllerManager+".kubeconfig"),
		"--leader-elect=false",
		"--secure-port=0",
		"--use-service-account-credentials",
		"--service-account-private-key-file=" + c.file("service-account.key"),
		"--root-ca-file=" + c.file("ca.crt"),
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
	}
}

func (c *ControlPlane) schedulerArgs() []string {
	return []string{
		"--kubeconfig=" + c.file(Scheduler+".kubeconfig"),
		"--leader-elect=false",
		"--secure-port=0",
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
	}
}

// kwokArgs pass no port, so kwok opens none.
func (c *ControlPlane) kwokArgs() []string {
	args := []string{
		"--kubeconfig=" + c.file(Kwok+".kubeconfig"),
		"--node-lease-duration-seconds=40",
		"--cidr=10.128.0.0/9", // of the pods; apart from the services
	}
	if c.options.OtherNodes {
		args = append(args, "--manage-nodes-with-annotation-selector="+kwokNode+"=fake")
	} else {
		args = append(args, "--manage-all-nodes=true")
	}
	for _, stage := range []string{"node-initialize", "node-heartbeat-with-lease", "pod-ready", "pod-complete", "pod-delete"} {
		args = append(args, "--config="+filepath.Join(c.bin, kwokStages, stage+".yaml"))
	}
	return args
}

// waitFor waits until a program is ready.
func (c *ControlPlane) waitFor(ctx context.Context, program string) error {
	started := time.Now()
	err := c.whileRunning(ctx, program, func(ctx context.Context) error {
		return Wait(ctx, program+" to be ready", c.ready(program))
	})
	if err == nil {
		c.logf("%s ready after %s", program, since(started))
	}
	return err
}

// whileRunning ends f's context at once when the program exits, and adds the end of the
// program's log to f's error.
func (c *ControlPlane) whileRunning(ctx context.Context, program string, f func(context.Context) error) error {
	p, err := c.process(program)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-p.done:
			cancel(fmt.Errorf("it ended: %s", p.cmd.ProcessState))
		case <-ctx.Done():
		}
	}()
	if err := f(ctx); err != nil {
		log := strings.ReplaceAll(p.tail(), "\n", "\n  ")
		return fmt.Errorf("start %s: %w; its log ends with:\n  %s", program, err, log)
	}
	return nil
}

func (c *ControlPlane) ready(program string) func(context.Context) (bool, error) {
	switch program {
	case Etcd:
		return c.etcdReady
	case APIServer:
		return c.apiServerReady
	default:
		return c.serviceAccountReady("default")
	}
}

func (c *ControlPlane) etcdReady(ctx context.Context) (bool, error) {
	url := fmt.Sprintf("http://127.0.0.1:%d/health", c.ports.etcd)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK, nil
}

func (c *ControlPlane) apiServerReady(ctx context.Context) (bool, error) {
	_, err := c.Client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return err == nil, err
}

// serviceAccountReady is the first thing a namespace needs and the controllers make.
func (c *ControlPlane) serviceAccountReady(namespace string) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		_, err := c.Client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	}
}
