// Package certs keeps the serving certificate of the webhook.
//
// Three sources share one shape, GetCertificate for tls.Config, Ready for
// /readyz and Start for a controller-runtime manager:
//
//   - [Self] makes its own CA in one Secret which all replicas share, signs a
//     short-lived leaf in memory and has the CA written into the caBundle of
//     the webhook configuration.
//   - [Files] serves tls.crt and tls.key from a directory, as cert-manager or
//     any other issuer writes them, and follows their rotation; the caBundle
//     is the issuer's to keep.
//   - [Ephemeral] is a throwaway CA in memory, for serving without a cluster.
//
// # How a rotation loses no request
//
// The API server verifies the leaf against the caBundle it read last. So the
// order matters: the new CA is added to the caBundle beside the old one, and
// only when it is there, and has been there for [SelfOptions.Settle], is a
// leaf signed by it served. Until then the old leaf stays, which the caBundle
// goes on to trust. The threshold in threshold.go holds this order on every
// replica by itself, for both sources in a cluster; no replica leads.
//
// [Clients] is the other direction: whose client certificates are let in.
package certs
