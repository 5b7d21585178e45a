package monitoring

import (
	// Its module has the definitions that are applied.
	_ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil"
)
