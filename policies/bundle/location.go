package bundle

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"oras.land/oras-go/v2/registry"
)

// location is a bundle's URL, taken apart.
type location struct {
	name   string // the URL without its query, for messages
	server string // scheme and host
	path   string // what is asked of the server; for a registry the reference, registry included
	secure bool
	oci    bool
}

func parseLocation(raw string) (location, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return location{}, fmt.Errorf("parse the URL of a bundle: %w", withoutURL(err))
	}
	l := location{name: (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()}
	switch {
	case u.User != nil:
		err = errors.New("a password in a URL can be read by others in lists of processes; put user:password into the token file")
	case u.Host == "":
		err = errors.New("expected https://host/path/bundle.tar.gz or oci://registry/repository:tag")
	case u.Fragment != "":
		err = errors.New("a URL of a bundle has no #fragment")
	case u.Scheme == "http" || u.Scheme == "https":
		err = l.onServer(u)
	case u.Scheme == "oci" || u.Scheme == "oci+http":
		err = l.inRegistry(u)
	default:
		err = fmt.Errorf("invalid scheme %q: expected https, http, oci or oci+http", u.Scheme)
	}
	if err != nil {
		return location{}, fmt.Errorf("%s: %w", l.name, err)
	}
	return l, nil
}

// withoutURL drops the URL, which may hold a password, from the error of url.Parse.
func withoutURL(err error) error {
	var parse *url.Error
	if errors.As(err, &parse) {
		return parse.Err
	}
	return err
}

func (l *location) onServer(u *url.URL) error {
	if strings.Trim(u.Path, "/") == "" {
		return errors.New("the URL names a server and no bundle")
	}
	l.server, l.secure = u.Scheme+"://"+u.Host, u.Scheme == "https"
	l.path = u.EscapedPath()
	if u.RawQuery != "" {
		l.path += "?" + u.RawQuery
	}
	return nil
}

func (l *location) inRegistry(u *url.URL) error {
	if u.RawQuery != "" {
		return errors.New("a reference to a registry has no ?query")
	}
	ref, err := registry.ParseReference(u.Host + u.Path)
	if err != nil {
		return err
	}
	if ref.Reference == "" {
		return errors.New("name a tag or digest: oci://registry/repository:tag")
	}
	l.oci, l.secure, l.path = true, u.Scheme == "oci", u.Host+u.Path
	l.server = "http://" + ref.Host()
	if l.secure {
		l.server = "https://" + ref.Host()
	}
	return nil
}
