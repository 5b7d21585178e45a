package kube

import (
	"context"
	"fmt"
	"os"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// AnotherAPIServer starts one more kube-apiserver over the same etcd, as a control plane of several machines
// has, and returns the administrator's configuration for it when it is ready. Stop ends it, too; Restart,
// Kill and Pause mean the first one.
func (c *ControlPlane) AnotherAPIServer(ctx context.Context) (*rest.Config, error) {
	free, err := FreePorts(1)
	if err != nil {
		return nil, err
	}
	port := free[0]
	dir := c.file(fmt.Sprintf("%s-%d", APIServer, port))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	args := append(c.apiServerArgs(), fmt.Sprintf("--secure-port=%d", port), "--audit-log-path="+dir+"/"+auditLog)
	if err := c.launchBeside(args, dir); err != nil {
		return nil, err
	}
	config := rest.CopyConfig(c.Config)
	config.Host = fmt.Sprintf("https://127.0.0.1:%d", port)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return config, Wait(ctx, "another "+APIServer+" to be ready", func(ctx context.Context) (bool, error) {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err == nil, err
	})
}

// launchBeside starts an API server that is not in the first one's place.
func (c *ControlPlane) launchBeside(args []string, dir string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return fmt.Errorf("start another %s: the control plane is stopped", APIServer)
	}
	program, _ := Program(APIServer)
	p, err := c.spawner.spawn(program, args, dir)
	if err != nil {
		return fmt.Errorf("start another %s: %w", APIServer, err)
	}
	c.running = append(c.running, p)
	return nil
}
