package webhook

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/prometheus/client_golang/prometheus"
)

var certificateExpires = prometheus.NewDesc("evictgate_certificate_expiration_timestamp_seconds",
	"When the certificate that is served now ends, in seconds since 1970; absent while there is none.", nil, nil)

// CertificateExpiry is a collector that looks at the certificate being served when it is scraped.
func CertificateExpiry(c Certificates) prometheus.Collector { return certificateExpiry{c} }

type certificateExpiry struct{ certificates Certificates }

func (certificateExpiry) Describe(to chan<- *prometheus.Desc) { to <- certificateExpires }

func (c certificateExpiry) Collect(to chan<- prometheus.Metric) {
	served, err := c.certificates.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil || served == nil || len(served.Certificate) == 0 {
		return
	}
	leaf := served.Leaf
	if leaf == nil {
		if leaf, err = x509.ParseCertificate(served.Certificate[0]); err != nil {
			return
		}
	}
	to <- prometheus.MustNewConstMetric(certificateExpires, prometheus.GaugeValue, float64(leaf.NotAfter.Unix()))
}
