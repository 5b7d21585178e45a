//go:build linux

package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/evictgate/evictgate/test/harness/privilege"
)

const (
	// stateDir holds a lock and a directory for each network.
	stateDir = privilege.Dir
	// slots is how many networks one machine can have at a time: 10.64.0.0/16 to 10.95.0.0/16.
	slots, firstNet = 32, 64
)

// Network is a bridge with the addresses of one run's pods, and a directory for their files. The kernel
// frees its lock when the process that made it ends, however that happens; the next NewNetwork then removes
// what is left.
type Network struct {
	slot int
	dir  string
	lock *os.File

	mu   sync.Mutex
	next int
	free []int
}

// Missing says what this machine lacks to run pods; it is empty when nothing is.
func Missing() []string {
	if lack := privilege.Missing(); lack != "" {
		return []string{lack}
	}
	return nil
}

// NewNetwork makes a network that no other process uses, and sweeps away those whose process is gone.
func NewNetwork() (*Network, error) {
	if err := os.MkdirAll(stateDir, 0o711); err != nil {
		return nil, err
	}
	var taken *Network
	for slot := range slots {
		n, err := lockSlot(slot)
		if err != nil {
			return nil, err
		}
		if n == nil {
			continue // in use
		}
		vacant, err := n.vacate()
		if vacant && taken == nil {
			taken = n
			continue
		}
		if err := errors.Join(err, n.lock.Close()); err != nil {
			return nil, err
		}
	}
	if taken == nil {
		return nil, fmt.Errorf("all %d networks in %s are in use, or the machine has routes there", slots, stateDir)
	}
	if err := taken.create(); err != nil {
		return nil, errors.Join(err, taken.Close())
	}
	return taken, nil
}

// lockSlot takes the lock of a slot; it returns nil when somebody has it.
func lockSlot(slot int) (*Network, error) {
	dir := filepath.Join(stateDir, fmt.Sprintf("%d", slot))
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, lock.Close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", lock.Name(), err), lock.Close())
	}
	return &Network{slot: slot, dir: dir, lock: lock}, nil
}

func (n *Network) create() error {
	if err := os.Mkdir(n.dir, 0o711); err != nil {
		return err
	}
	return ip(nil, fmt.Sprintf("link add %[1]s type bridge\naddr add %[2]s/16 dev %[1]s\nlink set %[1]s up\n", n.bridge(), n.Gateway()))
}

// sweep removes the bridge, what hangs on it, and the files. Network namespaces end with the process that
// held them, and take their half of each cable along.
func (n *Network) sweep() error {
	var err error
	links, _ := filepath.Glob("/sys/class/net/" + n.bridge() + "*")
	for _, link := range links {
		if name := filepath.Base(link); name == n.bridge() || strings.HasPrefix(name, n.bridge()+"-") {
			err = errors.Join(err, unplug(name))
		}
	}
	return errors.Join(err, os.RemoveAll(n.dir))
}

// vacate removes what a process has left that is gone, and says whether the network can be had.
func (n *Network) vacate() (bool, error) {
	if err := n.sweep(); err != nil {
		return false, err
	}
	routed, err := n.routed()
	return !routed && err == nil, err
}

// routed says whether the machine has a route to a part of the network's addresses.
func (n *Network) routed() (bool, error) {
	out, err := exec.Command("ip", "-4", "-json", "route", "show", "table", "all").Output()
	if err != nil {
		return false, fmt.Errorf("ip route: %w", err)
	}
	var routes []struct {
		To string `json:"dst"`
	}
	if err := json.Unmarshal(out, &routes); err != nil {
		return false, fmt.Errorf("ip route: %w", err)
	}
	for _, r := range routes {
		if n.holds(r.To) {
			return true, nil
		}
	}
	return false, nil
}

// holds says whether a route begins within the network. One that is wider, as a company's to all of 10.0.0.0/8, is
// no hindrance: for a while the bridge takes a small part of it.
func (n *Network) holds(route string) bool {
	first, _, _ := strings.Cut(route, "/")
	address, err := netip.ParseAddr(first) // the default route has none
	return err == nil && netip.PrefixFrom(n.address(0), 16).Contains(address)
}

// Close removes the network. Pods must be gone.
func (n *Network) Close() error {
	return errors.Join(n.sweep(), n.lock.Close())
}

// Gateway is the address of this machine in the network: pods reach the API server there.
func (n *Network) Gateway() string { return n.address(1).String() }

func (n *Network) bridge() string { return fmt.Sprintf("evg%d", n.slot) }

func (n *Network) address(host int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(firstNet + n.slot), byte(host >> 8), byte(host)})
}

// take gives out a number; the one given back first comes first, so that an address rests as long as can be.
func (n *Network) take() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next < 250 || len(n.free) == 0 {
		n.next++
		return n.next + 1
	}
	number := n.free[0]
	n.free = n.free[1:]
	return number
}

func (n *Network) giveBack(number int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.free = append(n.free, number)
}

// sandbox is a pod's network namespace. It has no name: it lives as long as the file is open or a process
// is in it.
type sandbox struct {
	network *Network
	number  int
	ns      *os.File
}

// newSandbox makes a namespace with one cable to the bridge.
func (n *Network) newSandbox() (*sandbox, error) {
	s := &sandbox{network: n, number: n.take()}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread stays in the namespace and ends here
		done <- s.create()
	}()
	if err := <-done; err != nil {
		return nil, errors.Join(fmt.Errorf("make the network of a pod: %w", err), s.close())
	}
	return s, nil
}

func (s *sandbox) address() string { return s.network.address(s.number).String() }

func (s *sandbox) cable() string { return fmt.Sprintf("%s-%d", s.network.bridge(), s.number) }

// create runs on a thread of its own.
func (s *sandbox) create() error {
	host, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer func() { _ = host.Close() }()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	if s.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	bridge := s.network.bridge()
	plug := fmt.Sprintf("link add %s type veth peer name eth0 netns /proc/%d/fd/%d\nlink set %[1]s master %[4]s up\n", s.cable(), os.Getpid(), s.ns.Fd(), bridge)
	if err := ip(host, plug); err != nil {
		return err
	}
	return ip(s.ns, fmt.Sprintf("link set lo up\naddr add %s/16 dev eth0\nlink set eth0 up\nroute add default via %s\n", s.address(), s.network.Gateway()))
}

// close pulls the cable; the namespace goes with the last process in it.
func (s *sandbox) close() error {
	if s.ns == nil {
		s.network.giveBack(s.number)
		return nil
	}
	err := errors.Join(unplug(s.cable()), s.ns.Close())
	s.network.giveBack(s.number)
	return err
}

// unplug removes a link, unless the kernel was faster: it takes a cable away when one end's namespace goes.
func unplug(link string) error {
	err := ip(nil, "link del "+link+"\n")
	if _, gone := os.Stat("/sys/class/net/" + link); err != nil && os.IsNotExist(gone) {
		return nil
	}
	return err
}

// ip runs commands of the program ip: in the namespace, or in the caller's own when that is nil.
func ip(ns *os.File, commands string) error {
	cmd := exec.Command("ip", "-batch", "-")
	if ns != nil {
		cmd = exec.Command("nsenter", "--net=/proc/self/fd/3", "ip", "-batch", "-")
		cmd.ExtraFiles = []*os.File{ns}
	}
	cmd.Stdin = strings.NewReader(commands)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
