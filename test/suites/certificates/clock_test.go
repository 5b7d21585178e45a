package certificates

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/evictgate/evictgate/test/harness/gate"
)

// late is by how much the API server's clock seems to be behind.
const late = 12 * time.Second

// TestAnAPIServerWhoseClockIsLate reaches the API server through a proxy that dates its answers back: a
// process cannot be given a clock of its own. A new certificate is held until it is valid there, too.
func TestAnAPIServerWhoseClockIsLate(t *testing.T) {
	namespace := space(t)
	in := open(t, shared.ControlPlane, namespace, 0, gate.Options{Args: []string{"--kubeconfig", behind(t, late)}})
	began := time.Now()
	replica, err := in.Add(t.Context())
	check(t, err)
	took := time.Since(began)
	t.Logf("ready after %s", took.Round(100*time.Millisecond))
	if took < late-2*time.Second { // the header has whole seconds, and we believe only what is sure
		t.Errorf("ready after %s, while the certificate was not valid for the API server", took)
	}
	if !said(replica.Log(), "certificate is not valid before ") || !strings.Contains(replica.Log(), "by the API server's clock; this machine's is 1") {
		t.Error("the log does not tell of the clock")
	}
	in.decides(t)
}

// behind is a kubeconfig that leads to the API server through answers dated back.
func behind(t *testing.T, by time.Duration) string {
	t.Helper()
	target, err := url.Parse(shared.Config.Host)
	check(t, err)
	transport, err := rest.TransportFor(shared.Config)
	check(t, err)
	proxy := httptest.NewTLSServer(&httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1, // watches
		ModifyResponse: func(r *http.Response) error {
			r.Header.Set("Date", time.Now().Add(-by).UTC().Format(http.TimeFormat))
			return nil
		},
	})
	t.Cleanup(proxy.Close)
	t.Cleanup(proxy.CloseClientConnections)
	config := clientcmdapi.NewConfig()
	config.Clusters["late"] = &clientcmdapi.Cluster{Server: proxy.URL,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw})}
	config.AuthInfos["anybody"] = &clientcmdapi.AuthInfo{} // the proxy is the administrator
	config.Contexts["late"] = &clientcmdapi.Context{Cluster: "late", AuthInfo: "anybody"}
	config.CurrentContext = "late"
	file := filepath.Join(t.TempDir(), "kubeconfig")
	check(t, clientcmd.WriteToFile(*config, file))
	return file
}
