package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// Profiles serves net/http/pprof on a listener of its own. It is only for this machine, or this pod:
// `kubectl port-forward` reaches it there, and whoever may do that is asked by the API server. Profiles name
// what is in memory and cost CPU, so nobody else is to have them.
type Profiles struct{ listener net.Listener }

// OpenProfiles opens the listener; nil for the address "0".
func OpenProfiles(address string) (*Profiles, error) {
	if address == "0" {
		return nil, nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("--pprof-listen: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("--pprof-listen is %q; expected a loopback address such as 127.0.0.1:6060: profiles are not protected, and kubectl port-forward reaches them there", address)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--pprof-listen: %w", err)
	}
	return &Profiles{listener}, nil
}

// profileHandler is a mux of its own: the one that net/http/pprof fills by itself is served nowhere.
func profileHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// Start serves until ctx is done; a profile that is being taken then is cut off.
func (p *Profiles) Start(ctx context.Context) error {
	server := &http.Server{Handler: profileHandler(), ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve profiles: %w", err)
	}
	return nil
}

// NeedLeaderElection is false: every replica has its own.
func (*Profiles) NeedLeaderElection() bool { return false }
