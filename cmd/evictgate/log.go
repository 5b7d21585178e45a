package main

import (
	"fmt"
	"log/slog"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/logs"
)

// newLog is the log of a long-running command.
func newLog(p output.Printer, format string, verbose bool) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: logs.Cut}
	if verbose {
		options.Level = slog.LevelDebug
	}
	switch format {
	case "text":
		return slog.New(logs.Limit(slog.NewTextHandler(p.Err, options))), nil
	case "json":
		return slog.New(logs.Limit(slog.NewJSONHandler(p.Err, options))), nil
	}
	return nil, fmt.Errorf("--log-format is %q; expected text or json", format)
}
