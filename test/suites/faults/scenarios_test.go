package faults

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

const (
	// shutdownDelay is serve's default.
	shutdownDelay = 7 * time.Second
	// callTimeout is the webhook configuration's timeoutSeconds.
	callTimeout = 5 * time.Second
	// shortLeaf is renewed after two thirds of it.
	shortLeaf = 12 * time.Second
)

// scenario is what happens while pods are evicted.
type scenario struct {
	fault string
	// gets and why stand in the table: what an eviction gets meanwhile, and the reason.
	gets, why string
	// bound is how many evictions may get anything but a decision, when the fault lasted so long; nil is
	// none, as for all that is planned.
	bound func(lasted time.Duration) int
	// lingers is for how long after run has returned evictions may begin that get anything but a decision.
	lingers time.Duration
	// stalls is when no eviction is answered during the fault.
	stalls bool
	// unwritten is how many records may be lost with a process that was killed.
	unwritten int
	// group names the replicas it runs over; "" are those as installed.
	group string
	run   func(*stage)
	// after is asked when no more is evicted.
	after func(*stage)
}

const (
	// inFlight is how many evictions are under way at most, and rate how many begin in a second.
	inFlight = clients + burst
	rate     = float64(clients)*float64(time.Second)/float64(evictEvery) + burst*float64(time.Second)/float64(burstEvery)
)

func atMost(n int) func(time.Duration) int { return func(time.Duration) int { return n } }

// each is the bound when every eviction fails that begins during the fault, is under way before it, or in a last
// burst.
func each(lasted time.Duration) int { return int(lasted.Seconds()*rate) + 2*inFlight }

var scenarios = []scenario{
	{
		fault: "rolling restart of all replicas", gets: "a decision",
		why: "a replica leaves the rotation before it gets SIGTERM, goes on answering, and ends each connection with its answer",
		run: func(st *stage) { must(st.T, st.group.RollingRestart(st.Context())) },
	},
	{
		fault: "SIGTERM to a replica's process", gets: "a decision",
		why: "it is not ready at once and goes on answering until the rotation has noticed",
		run: terminate,
	},
	{
		fault: "rotation of the CA (self-signed mode)", gets: "a decision",
		why: "a new CA is served only after the caBundle has it",
		run: rotateCA,
	},
	{
		fault: "policies reloaded, good and broken", gets: "a decision",
		why: "the last good revision serves until a new one is whole",
		run: reload,
	},
	{
		fault: "scaled from 3 replicas to 1 and back", gets: "a decision",
		why: "as in a rolling restart",
		run: scale,
	},
	{
		fault: "kill -9 of a replica", gets: "500, failed calling webhook: EOF or refused", bound: atMost(inFlight + 15), unwritten: inFlight,
		why: "the API server does not repeat a call: what was in flight fails, and so does a third of the new connections until the kubelet has seen the end (at most 1.5 s)",
		run: func(st *stage) {
			r := st.group.Running()[0]
			r.Kill()
			must(st.T, r.WaitInRotation(st.Context(), false))
		},
	},
	{
		fault: "a replica hangs (SIGSTOP)", gets: "500, failed calling webhook: timeout, after 5 s", bound: atMost(2 * inFlight),
		why: "each call that goes there waits for timeoutSeconds, until the readiness probe has failed twice and the connections kept to it are used up; awake again, it still writes its records",
		run: hang,
	},
	{
		fault: "a node is lost, with a replica on it", gets: "500, failed calling webhook: timeout, after 5 s", unwritten: inFlight,
		bound: func(lasted time.Duration) int { return int(lasted/callTimeout+1) * inFlight },
		why:   "as with a replica that hangs, but the pod stays in the rotation until the node was not heard of for 50 s (--node-monitor-grace-period); an API server keeps its connections to the others, so that few calls meet it",
		run:   loseNode,
	},
	{
		fault: "all replicas are killed at once", gets: "500, failed calling webhook: refused, or EOF", bound: each, unwritten: replicas * inFlight,
		why: "nothing is evicted unasked; the kubelet starts the replicas again, and they need no eviction and nobody's help to serve",
		run: killAll,
	},
	{
		fault: "the API server is killed, and away 5 s", gets: "no connection to the API server, or its own 403 in its first moments; then 429, undecided, for some 4 s", bound: each, lingers: 8 * time.Second,
		why: "no eviction gets as far as the webhook; the replicas stay, and stay ready, and one that starts meanwhile waits; what happened while they could not watch is known when the watches are back",
		run: loseAPIServer,
	},
	{
		fault: "etcd pauses 10 s", gets: "a decision when etcd is back; seldom 429, undecided, or the API server's own 500 or 504", bound: atMost(inFlight), lingers: 2 * time.Second, stalls: true,
		why: "the API server waits for etcd before it calls the webhook; a review that is under way is decided by what is known of the cluster, and left undecided when the pod is not known yet",
		run: func(st *stage) {
			must(st.T, st.plane.Pause(kube.Etcd))
			time.Sleep(10 * time.Second)
			must(st.T, st.plane.Resume(kube.Etcd))
		},
	},
	{
		fault: "rotation of the serving certificates (self-signed mode)", gets: "a decision", group: "short leaf",
		why: "each replica renews its own in memory, under the same CA",
		run: func(st *stage) { st.renewed(func() {}) }, // the time does it
	},
	{
		fault: "rotation of the serving certificates (files)", gets: "a decision", group: "files",
		why: "the files are read again when they change",
		run: reissue,
	},
	{
		fault: "SIGTERM to a replica's process, called by HTTP/2", gets: "a decision", group: "http/2",
		why: "as by HTTP/1.1; a GOAWAY ends the connection",
		run: terminate,
	},
	{
		fault: "PostgreSQL is gone 8 s", gets: "a decision", group: "postgres",
		why: "no decision waits for the store; records wait in memory, and are stored when it is back",
		run: loseDatabase, after: nothingLost,
	},
	{
		fault: "the disk of the store is full 5 s", gets: "a decision", group: "full disk",
		why: "as with PostgreSQL; what is more than --record-queue is lost to the store, counted and logged, and stands on stdout",
		run: fillDisk, after: lossesCounted,
	},
}

// terminate is SIGTERM out of the blue, as a kubelet sends it to a container that is not live: the pod is
// not deleted, so that only the readiness probe takes it out of the rotation.
func terminate(st *stage) {
	must(st.T, st.group.Running()[0].Terminate())
	_, err := st.group.Add(st.Context())
	must(st.T, err)
}

// loseAPIServer is an API server that is away. Meanwhile one replica is started, and another ends.
func loseAPIServer(st *stage) {
	stays := st.group.Running()
	ends := stays[0]
	stays = stays[1:]
	must(st.T, st.plane.Kill(kube.APIServer))
	killed := time.Now()
	var both sync.WaitGroup
	defer both.Wait()
	both.Go(func() { st.endsInTime(ends) })
	both.Go(func() {
		ctx, cancel := context.WithTimeout(st.Context(), *away+time.Minute)
		defer cancel()
		if _, err := st.group.Add(ctx); err != nil {
			st.Error(err)
		}
	})
	time.Sleep(*away)
	for _, r := range stays {
		if !slices.Contains(st.group.Balancer.Rotation(), r.Listen) {
			st.Errorf("replica %s is not ready while the API server is away", r.Listen)
		}
	}
	must(st.T, st.plane.Restart(st.Context(), kube.APIServer))
	st.lasted = time.Since(killed)
}

// endsInTime sends SIGTERM and wants the end, with the preStop hook before it, within a minute: well before
// terminationGracePeriodSeconds.
func (st *stage) endsInTime(r *gate.Replica) {
	began := time.Now()
	err := r.Terminate()
	took := time.Since(began)
	if err != nil || took > time.Minute-gate.AsInstalled().PreStop {
		st.Errorf("SIGTERM: ended after %s with %v", took, err)
	}
	st.Logf("SIGTERM: ended after %s", took.Round(100*time.Millisecond))
}

func scale(st *stage) {
	var leaving sync.WaitGroup
	for _, r := range st.group.Running()[1:] {
		leaving.Go(func() {
			if err := r.Delete(); err != nil {
				st.Error(err)
			}
		})
	}
	leaving.Wait()
	time.Sleep(time.Second)
	for range 2 {
		_, err := st.group.Add(st.Context())
		must(st.T, err)
	}
}

// hang stops a replica, as a process that waits for a lost disk does. When the disk is back, it hears of the
// kubelet's SIGTERM, and still writes the records of what it decided before.
func hang(st *stage) {
	r := st.group.Running()[0]
	must(st.T, r.Signal(syscall.SIGSTOP))
	began := time.Now()
	must(st.T, r.WaitInRotation(st.Context(), false))
	st.Logf("out of the rotation after %s", time.Since(began).Round(100*time.Millisecond))
	time.Sleep(8 * time.Second)
	must(st.T, r.Signal(syscall.SIGCONT))
	st.endsInTime(r)
}

// loseNode loses a replica's node for ever. Its pod is replaced when the rotation is without it.
func loseNode(st *stage) {
	r := st.group.Running()[0]
	must(st.T, r.LoseNode())
	ctx, cancel := context.WithTimeout(st.Context(), 2*gate.AsInstalled().NodeGrace)
	defer cancel()
	must(st.T, r.WaitInRotation(ctx, false))
	_, err := st.group.Add(st.Context())
	must(st.T, err)
	time.Sleep(2 * callTimeout) // the connections kept to it are used up
	r.Kill()
}

// killAll ends all replicas out of the blue. The kubelet starts each of them again.
func killAll(st *stage) {
	killed := st.group.Running()
	for _, r := range killed {
		r.Kill()
	}
	began := time.Now()
	var starting sync.WaitGroup
	for range killed {
		starting.Go(func() {
			if _, err := st.group.Add(st.Context()); err != nil {
				st.Error(err)
			}
		})
	}
	starting.Wait()
	for _, r := range killed {
		must(st.T, r.WaitInRotation(st.Context(), false))
	}
	st.Logf("all replicas serve again after %s", time.Since(began).Round(100*time.Millisecond))
}

// rotateCA has a new CA made, and waits until every replica serves under it.
func rotateCA(st *stage) {
	before := map[string]string{}
	for _, r := range st.group.Running() {
		before[r.Listen] = string(served(st, r).AuthorityKeyId)
	}
	must(st.T, st.plane.Client.CoreV1().Secrets("default").Delete(st.Context(), "evictgate", metav1.DeleteOptions{}))
	for _, r := range st.group.Running() {
		err := kube.Wait(st.Context(), "a leaf of the new CA", func(context.Context) (bool, error) {
			return string(served(st, r).AuthorityKeyId) != before[r.Listen], nil
		})
		must(st.T, err)
	}
}

// renewed waits until every replica serves another certificate than before the change.
func (st *stage) renewed(change func()) {
	before := map[string]string{}
	for _, r := range st.group.Running() {
		before[r.Listen] = served(st, r).SerialNumber.String()
	}
	change()
	for _, r := range st.group.Running() {
		err := kube.Wait(st.Context(), "a new certificate", func(context.Context) (bool, error) {
			return served(st, r).SerialNumber.String() != before[r.Listen], nil
		})
		must(st.T, err)
	}
}

// served is the certificate that a replica serves now.
func served(st *stage, r *gate.Replica) *x509.Certificate {
	c, err := tls.Dial("tcp", r.Listen, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it is looked at, not trusted
	must(st.T, err)
	defer func() { _ = c.Close() }()
	return c.ConnectionState().PeerCertificates[0]
}

var evictionPolicies = schema.GroupVersionResource{Group: "evictgate.dev", Version: "v1alpha1", Resource: "evictionpolicies"}

// reload changes the policies in the directory and in the cluster, to good ones and to broken ones, and
// waits until each change was noticed.
func reload(st *stage) {
	file := filepath.Join(st.policies, "faults.rego")
	put := func(text, result string) {
		st.reloads(result, func() {
			must(st.T, os.WriteFile(file+".new", []byte(text), 0o600))
			must(st.T, os.Rename(file+".new", file))
		})
	}
	api, err := dynamic.NewForConfig(st.plane.Config)
	must(st.T, err)
	inCluster := api.Resource(evictionPolicies)
	create := func(name, rule, result string) {
		st.reloads(result, func() {
			_, err := inCluster.Create(st.Context(), evictionPolicy(name, rule), metav1.CreateOptions{})
			must(st.T, err)
		})
	}
	const warns, broken = `warn contains {"reason": "revision %d", "detail": {}} if input.pod.metadata.labels.answer == "dry"`, `deny contains {"reason": input.pud.name, "detail": {}}`
	for i := range 2 {
		put(policy+"\n"+fmt.Sprintf(warns, i)+"\n", "ok")
		create(fmt.Sprintf("good-%d", i), fmt.Sprintf(warns, i), "ok")
		put(policy+"\n"+broken+"\n", "failed")
		create(fmt.Sprintf("broken-%d", i), broken, "failed")
		must(st.T, inCluster.Delete(st.Context(), fmt.Sprintf("broken-%d", i), metav1.DeleteOptions{}))
	}
	put(policy, "ok")
	must(st.T, inCluster.DeleteCollection(st.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
}

// reloads waits until every replica has counted one more reload with this result.
func (st *stage) reloads(result string, change func()) {
	st.Helper()
	name := fmt.Sprintf("evictgate_policy_reloads_total{result=%q} ", result)
	var before []int
	for _, r := range st.group.Running() {
		before = append(before, value(st.T, r, name))
	}
	change()
	for i, r := range st.group.Running() {
		err := kube.Wait(st.Context(), fmt.Sprintf("a reload: %s", result), func(context.Context) (bool, error) {
			return value(st.T, r, name) > before[i], nil
		})
		must(st.T, err)
	}
}

func evictionPolicy(name, rule string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "evictgate.dev/v1alpha1", "kind": "EvictionPolicy", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"rego": "package eviction." + strings.ReplaceAll(name, "-", "_") + "\n\n" + rule + "\n"},
	}}
}
