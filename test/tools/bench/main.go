// Command bench is `make bench`: it measures evictgate from outside, as the API server would call it,
// against a webhook that does nothing, and prints the ratios beside the bars they are held to.
//
// All servers run at once, one is loaded at a time, round after round, and every ratio is taken within a
// round: what else the machine does falls on both sides of it. It needs Linux, for the CPU time of another
// process.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/evictgate/evictgate/policies"
)

type options struct {
	evictgate string
	rounds    int
	reviews   int
	large     bool
	store     bool
	format    string
	strict    bool
}

func main() {
	runtime.LockOSThread() // see childAttributes
	var o options
	flag.StringVar(&o.evictgate, "evictgate", "bin/evictgate", "the program")
	flag.IntVar(&o.rounds, "rounds", 6, "samples of each server and protocol")
	flag.IntVar(&o.reviews, "reviews", 4000, "reviews of each sample")
	flag.BoolVar(&o.large, "large", false, "also measure 100,000 pods against 1,000; takes some minutes and 3 GB")
	flag.BoolVar(&o.store, "store", false, "also measure the default set with records kept in a SQLite store")
	flag.StringVar(&o.format, "o", "table", "table or json")
	flag.BoolVar(&o.strict, "strict", false, "exit 1 when a bar is missed")
	flag.Parse()
	os.Exit(run(o))
}

func run(o options) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := bench(ctx, o)
	if err == nil {
		err = r.print(os.Stdout, o.format)
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		return 2
	}
	if o.strict && !r.good() {
		return 1
	}
	return 0
}

func bench(ctx context.Context, o options) (*report, error) {
	if flag.NArg() > 0 || o.rounds < 1 || o.reviews < inFlight || (o.format != "table" && o.format != "json") {
		return nil, errors.New("unusable flags; see -h")
	}
	dir, err := os.MkdirTemp("", "evictgate-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	f := &field{dir: dir, options: o, samples: map[arm][]sample{}}
	defer f.stop()
	if err := f.prepare(ctx); err != nil {
		return nil, err
	}
	if err := f.measure(ctx); err != nil {
		return nil, err
	}
	return f.report(ctx)
}

// Names of the servers. Those named new are asked about pods that look new to the policies each time.
const (
	noop          = "no-op"
	defaultSet    = "default set"
	library       = "whole library"
	defaultSetNew = "default set, new"
	libraryNew    = "whole library, new"
	oneBudget     = "1 PDB"
	manyBudgets   = "1,000 PDBs"
	thousandPods  = "1,000 pods"
	manyPods      = "100,000 pods"
	kept          = "default set, SQLite store"
	keptWhole     = "default set, SQLite store, whole inputs"
)

// field is where servers are measured against each other.
type field struct {
	dir      string
	options  options
	servers  []*server
	samples  map[arm][]sample
	policies int
	podBytes int
}

// arm is one line of figures: a server, asked by one protocol.
type arm struct{ server, protocol string }

// protocolsOf says how a server is asked: the bars are for both protocols, the growth of a cluster is
// measured with the API server's own alone.
func protocolsOf(name string) []string {
	switch name {
	case oneBudget, manyBudgets, thousandPods, manyPods, kept, keptWhole:
		return []string{http1}
	}
	return []string{http1, http2}
}

func (f *field) stop() {
	for _, s := range f.servers {
		s.stop()
	}
}

func (f *field) prepare(ctx context.Context) error {
	progress("building the no-op webhook")
	nothing := filepath.Join(f.dir, "noop")
	// The flags are those of `make build`.
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", nothing, "github.com/evictgate/evictgate/test/tools/bench/noop")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the no-op webhook: %w\n%s", err, out)
	}
	progress("generating clusters and starting servers")
	f.policies = len(policies.LibraryIDs())
	dir := filepath.Join(f.dir, "policies")
	if err := writePolicies(dir); err != nil {
		return err
	}
	bound := map[string]string{library: dir, libraryNew: dir}
	for _, c := range []struct {
		cluster size
		asked   int
		servers []string
	}{
		// One pod of each workload is asked: one that was admitted counts as leaving for its peers.
		{size{namespaces: 10, deployments: 20, pods: 5}, askedAgain, f.again()},
		{size{namespaces: askedNew, deployments: 1, pods: 2}, askedNew, []string{defaultSetNew, libraryNew}},
		{size{namespaces: 1, deployments: 1, pods: 10}, 1, []string{oneBudget}},
		{size{namespaces: 1, deployments: 1, pods: 10, idleBudgets: 999}, 1, []string{manyBudgets}},
		{size{namespaces: 10, deployments: 20, pods: 5}, askedAgain, []string{thousandPods}},
		{size{namespaces: 100, deployments: 200, pods: 5}, askedAgain, []string{manyPods}},
	} {
		if isLarge(c.servers[0]) && !f.options.large {
			continue
		}
		if err := f.start(ctx, c.cluster, c.asked, c.servers, nothing, bound); err != nil {
			return err
		}
	}
	return nil
}

// again are the servers that are asked about the same pods again and again.
func (f *field) again() []string {
	if f.options.store {
		return []string{noop, defaultSet, library, kept, keptWhole}
	}
	return []string{noop, defaultSet, library}
}

func isLarge(name string) bool { return name == thousandPods || name == manyPods }

// How many pods of a cluster are evicted, round robin; they are spread over it.
const (
	// askedAgain is a drain that goes on: kubectl retries every refused pod each five seconds.
	askedAgain = 200
	// askedNew is more than a policy remembers (see policies.Set), and each is of a workload and a namespace
	// of its own, so that every review is as new as the first one of a cluster.
	askedNew = 1500
)

func (f *field) start(ctx context.Context, cluster size, asked int, names []string, nothing string, bound map[string]string) error {
	snapshot, err := writeSnapshot(f.dir, cluster)
	if err != nil {
		return fmt.Errorf("generate a cluster: %w", err)
	}
	f.podBytes = snapshot.podBytes
	bodies, err := reviewsOf(evenly(snapshot.pods, asked))
	if err != nil {
		return err
	}
	for _, name := range names {
		p := program{name: name, path: f.options.evictgate, bodies: bodies, pods: cluster.total()}
		if name != noop {
			if p.metrics, err = freeAddress(); err != nil {
				return err
			}
		}
		arguments := []string{"--metrics-listen", p.metrics} // the no-op has arguments of its own
		if dir, ok := bound[name]; ok {
			arguments = append(arguments, "--policies", dir)
		}
		if name == kept || name == keptWhole {
			p.keeps = true
			arguments = append(arguments, "--store", "sqlite:"+filepath.Join(f.dir, name+".db"))
		}
		if name == keptWhole {
			arguments = append(arguments, "--record-input", "full")
		}
		for _, file := range snapshot.files {
			arguments = append(arguments, "--snapshot", file)
		}
		p.arguments = func(address, ca string) []string {
			return append([]string{"serve", "--http2", "--listen", address, "--ca-out", ca, "--health-listen", "0", "--shutdown-delay", "0s"}, arguments...)
		}
		if name == noop {
			p.path = nothing
			p.arguments = func(address, ca string) []string { return []string{"-listen", address, "-ca-out", ca} }
		}
		s, err := start(ctx, f.dir, p)
		if err != nil {
			return err
		}
		f.servers = append(f.servers, s)
	}
	return nil
}

// evenly picks n of the list at even distances.
func evenly[T any](list []T, n int) []T {
	n = min(n, len(list))
	picked := make([]T, n)
	for i := range picked {
		picked[i] = list[i*len(list)/n]
	}
	return picked
}

// measure warms every server up, then samples them in turn.
func (f *field) measure(ctx context.Context) error {
	for round := range f.options.rounds + 1 {
		began := time.Now()
		for _, s := range f.servers {
			for _, protocol := range protocolsOf(s.name) {
				one, err := s.run(ctx, protocol, f.reviews(s.name, round))
				if err != nil {
					return err
				}
				if round > 0 {
					a := arm{s.name, protocol}
					f.samples[a] = append(f.samples[a], one)
				}
			}
		}
		if round == 0 {
			progress("warmed up in %s", time.Since(began).Round(time.Second))
		} else {
			progress("round %d of %d took %s", round, f.options.rounds, time.Since(began).Round(time.Second))
		}
	}
	return nil
}

// reviews is how many a sample has. A garbage collection of a large heap is rare and long, so that a sample
// must be long enough to hold some of them. The warm-up is half a round.
func (f *field) reviews(name string, round int) int {
	n := f.options.reviews
	if isLarge(name) {
		n *= 8
	}
	if round == 0 {
		n = max(n/2, inFlight)
	}
	return n
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }
