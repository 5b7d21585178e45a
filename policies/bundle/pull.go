package bundle

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/open-policy-agent/opa/v1/download"
	"github.com/open-policy-agent/opa/v1/logging"
	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/plugins/rest"
)

// puller is what OPA's two downloaders have in common. Their own loops are not used: these poll in
// whole seconds, know no context and put no bound on the time of a download.
type puller interface {
	Trigger(context.Context) error
	Stop(context.Context)
}

// pull looks at the server once. An update without a bundle means that it is the one we have.
func (s *Source) pull(ctx context.Context) download.Update {
	if s.puller == nil {
		if err := s.open(); err != nil {
			return download.Update{Error: err}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	// Trigger does not wait when ctx ends. Its download calls back exactly once, cancelled or not.
	_ = s.puller.Trigger(ctx)
	return <-s.updates
}

// open makes OPA's downloader. One serves only as long as nothing changes: that of HTTP goes on to
// send an ETag after it was told to forget it, that of OCI keeps everything it ever pulled.
func (s *Source) open() error {
	client, err := s.client()
	if err != nil {
		return err
	}
	manual := plugins.TriggerManual
	config := download.Config{Trigger: &manual}
	if err := config.ValidateAndInjectDefaults(); err != nil {
		return err
	}
	tell := func(_ context.Context, u download.Update) error {
		s.updates <- u
		return nil
	}
	if !s.oci {
		d := download.New(config, client, s.path).WithCallback(tell).WithBundleVerificationConfig(s.trust).
			WithSizeLimitBytes(maxBytes).WithBundlePersistence(true) // otherwise there are no raw bytes
		d.SetCache(s.etag)
		s.puller = d
		return nil
	}
	if s.store, err = s.makeStore(); err != nil {
		return fmt.Errorf("make a directory to unpack the bundle in: %w", err)
	}
	d, err := openOCI(config, client, s.path, s.store)
	if err != nil {
		return err
	}
	d.WithCallback(tell).WithBundleVerificationConfig(s.trust).WithSizeLimitBytes(maxBytes).WithBundlePersistence(true)
	d.SetCache(s.etag)
	s.puller = d
	return nil
}

// openOCI turns the panic of download.NewOCI, as on a full disk, into an error.
func openOCI(config download.Config, client rest.Client, ref, dir string) (d *download.OCIDownloader, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("unpack the bundle in %s: %v", dir, p)
		}
	}()
	return download.NewOCI(config, client, ref, dir), nil
}

// client is OPA's client of the server, with our access to it. It logs nothing: what happens is told
// by updates.
func (s *Source) client() (rest.Client, error) {
	config, err := json.Marshal(map[string]any{
		"name": s.name, "url": s.server, "credentials": map[string]string{"plugin": "access"},
	})
	if err != nil {
		return rest.Client{}, err
	}
	lookup := func(string) rest.HTTPAuthPlugin { return s.access }
	return rest.New(config, nil, rest.AuthPluginLookup(lookup), rest.Logger(logging.NewNoOpLogger()))
}

// makeStore makes an empty directory for what is pulled from a registry. Beside the cache it has a
// fixed name, so that what a crash left over is found.
func (s *Source) makeStore() (string, error) {
	if s.cache == "" {
		return os.MkdirTemp("", "evictgate-bundle-")
	}
	dir := s.cache + ".oci"
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.Mkdir(dir, 0o700)
}

func (s *Source) close() {
	if s.puller != nil {
		s.puller.Stop(context.Background())
		s.puller = nil
	}
	if s.store != "" {
		if err := os.RemoveAll(s.store); err != nil {
			s.log.Warn("cannot remove what was pulled", "bundle", s.name, "error", err.Error())
		}
		s.store = ""
	}
}
