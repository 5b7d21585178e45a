//go:build linux

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// Options says what nodes there are. Network, Config and Images are required.
type Options struct {
	Network *Network
	// Config reaches the API server at an address that pods reach, too.
	Config *rest.Config
	// Nodes is how many, named worker-1 and up, in the zones zone-a, zone-b and zone-c in turn.
	Nodes int
	// Images maps the names that pods use to OCI layout directories with one image each.
	Images map[string]string
	// BackOff is the wait before the second restart of a container, which doubles up to 5 minutes; 10 s by
	// default, as a kubelet's.
	BackOff time.Duration
}

// Agent plays all nodes.
type Agent struct {
	options Options
	client  *kubernetes.Clientset
	images  *images
	enter   string // the program enter
	api     map[string]string
	nodes   []string
	server  *logServer
	prober  *http.Client

	secrets    corelisters.SecretLister
	configMaps corelisters.ConfigMapLister
	factory    informers.SharedInformerFactory

	ctx     context.Context
	cancel  context.CancelFunc
	work    chan func() // runs on the thread that is the parent of all containers
	wg      sync.WaitGroup
	mu      sync.Mutex
	pods    map[types.UID]*pod
	stopped bool
}

// Start registers the nodes and runs what is scheduled to them, until Stop. The context bounds the start.
func Start(ctx context.Context, o Options) (*Agent, error) {
	if o.BackOff == 0 {
		o.BackOff = 10 * time.Second
	}
	a := &Agent{options: o, work: make(chan func()), prober: newProber(), pods: map[types.UID]*pod{}, enter: filepath.Join(o.Network.dir, "enter")}
	a.images = &images{dir: filepath.Join(o.Network.dir, "images"), layouts: map[string]string{}, unpacked: map[string]*image{}}
	for name, dir := range o.Images {
		a.images.set(name, dir)
	}
	if err := a.prepare(ctx); err != nil {
		return nil, err
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	go a.parent()
	if err := a.begin(ctx); err != nil {
		return nil, errors.Join(err, a.Stop())
	}
	return a, nil
}

func (a *Agent) prepare(ctx context.Context) (err error) {
	build := exec.CommandContext(ctx, "go", "build", "-o", a.enter, "github.com/evictgate/evictgate/test/harness/node/enter")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build enter: %w\n%s", err, out)
	}
	if err := os.MkdirAll(filepath.Join(a.options.Network.dir, "logs"), 0o755); err != nil {
		return err
	}
	if a.client, err = kubernetes.NewForConfig(a.options.Config); err != nil {
		return err
	}
	a.api, err = apiVariables(a.options.Config.Host)
	return err
}

// apiVariables tell a pod where the API server is.
func apiVariables(host string) (map[string]string, error) {
	url, _, err := rest.DefaultServerUrlFor(&rest.Config{Host: host})
	if err != nil {
		return nil, err
	}
	name, port, err := net.SplitHostPort(url.Host)
	if err != nil {
		return nil, fmt.Errorf("the API server's address %s: %w", host, err)
	}
	return map[string]string{
		"KUBERNETES_SERVICE_HOST": name, "KUBERNETES_SERVICE_PORT": port, "KUBERNETES_SERVICE_PORT_HTTPS": port,
	}, nil
}

func (a *Agent) begin(ctx context.Context) (err error) {
	if a.server, err = newLogServer(a); err != nil {
		return err
	}
	for i := range a.options.Nodes {
		name := fmt.Sprintf("worker-%d", i+1)
		if err := a.register(ctx, name, "zone-"+string(rune('a'+i%3))); err != nil {
			return err
		}
		a.nodes = append(a.nodes, name)
		a.wg.Go(func() { a.heartbeat(name) })
	}
	a.factory = informers.NewSharedInformerFactory(a.client, 0)
	core := a.factory.Core().V1()
	a.secrets, a.configMaps = core.Secrets().Lister(), core.ConfigMaps().Lister()
	pods := core.Pods().Informer()
	if _, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { a.observe(o.(*corev1.Pod)) },
		UpdateFunc: func(_, o any) { a.observe(o.(*corev1.Pod)) },
		DeleteFunc: a.forget,
	}); err != nil {
		return err
	}
	a.factory.StartWithContext(a.ctx)
	for kind, synced := range a.factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("watch %s: %w", kind, context.Cause(ctx))
		}
	}
	return a.waitReady(ctx)
}

// observe takes note of what the API server says of a pod.
func (a *Agent) observe(o *corev1.Pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped || !slices.Contains(a.nodes, o.Spec.NodeName) {
		return
	}
	p := a.pods[o.UID]
	if p == nil {
		p = a.newPod(o)
		a.pods[o.UID] = p
		a.wg.Go(func() {
			p.run()
			a.mu.Lock()
			defer a.mu.Unlock()
			delete(a.pods, o.UID)
		})
	}
	p.latest.Store(o)
	if o.DeletionTimestamp != nil {
		p.terminate()
	}
}

// forget: a pod whose object is gone is killed at once.
func (a *Agent) forget(o any) {
	if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = last.Obj
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.pods[o.(*corev1.Pod).UID]; p != nil {
		p.cancel()
	}
}

// SetImage maps an image name to an OCI layout, for containers that start from now on.
func (a *Agent) SetImage(name, layout string) { a.images.set(name, layout) }

// Nodes are the names of the nodes.
func (a *Agent) Nodes() []string { return slices.Clone(a.nodes) }

// Processes are the process ids, as this machine sees them, of the containers of a pod that run.
func (a *Agent) Processes(namespace, name string) map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.pods {
		if p.namespace == namespace && p.name == name {
			return p.processes()
		}
	}
	return nil
}

// Log is what a container has written so far, in all its runs; also after its pod is gone.
func (a *Agent) Log(namespace, pod, container string) (string, error) {
	text, err := os.ReadFile(a.logFile(namespace, pod, container))
	return string(text), err
}

func (a *Agent) logFile(namespace, pod, container string) string {
	return filepath.Join(a.options.Network.dir, "logs", namespace+"_"+pod+"_"+container+".log")
}

// Stop kills all containers and takes their networks down. The objects in the cluster stay.
func (a *Agent) Stop() error {
	a.mu.Lock()
	if a.stopped {
		a.mu.Unlock()
		return nil
	}
	a.stopped = true
	a.mu.Unlock()
	a.cancel()
	a.wg.Wait()
	if a.factory != nil {
		a.factory.Shutdown()
	}
	close(a.work)
	if a.server != nil {
		return a.server.close()
	}
	return nil
}

// secret and configMap make an Agent the values of an environment.
func (a *Agent) secret(namespace, name string) (*corev1.Secret, error) {
	return a.secrets.Secrets(namespace).Get(name)
}

func (a *Agent) configMap(namespace, name string) (*corev1.ConfigMap, error) {
	return a.configMaps.ConfigMaps(namespace).Get(name)
}
