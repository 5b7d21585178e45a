package main

import (
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/policies/output"
)

// Set at link time. Without version, the module's own stands in; revision and epoch, the commit's hash and
// its time in seconds since 1970, may be unknown.
var version, revision, epoch = "", "", ""

// versionInfo is what `evictgate version -o json` prints.
type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Date     string `json:"date,omitempty"`
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

func currentVersion() versionInfo {
	info := versionInfo{
		Version: version, Revision: revision, Date: commitDate(epoch),
		Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
	}
	if info.Version == "" {
		info.Version = "devel"
		if build, ok := debug.ReadBuildInfo(); ok && build.Main.Version != "" && build.Main.Version != "(devel)" {
			info.Version = build.Main.Version
		}
	}
	return info
}

// commitDate is the day and time of the commit in UTC, or empty when it is not known: a build never holds the
// time at which it was made, so that two builds are the same.
func commitDate(epoch string) string {
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || seconds <= 0 {
		return ""
	}
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
}

func newVersion(p output.Printer) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			info := currentVersion()
			if done, err := p.Structured(format, info); done {
				return err
			}
			p.Printf("evictgate %s (%s, %s/%s)\n", info.Version, info.Go, info.OS, info.Arch)
			return nil
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "text", "text, json or yaml")
	return cmd
}
