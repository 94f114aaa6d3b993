package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by release builds with -ldflags "-X main.version=…".
var version = "0.1.0-dev"

func versionCommand() command {
	return command{name: "version", args: "[--json]",
		short: "print the version",
		long:  "Prints the version of the program and what it was built with.",
		run: func(_ context.Context, t terminal, fs *flag.FlagSet, args []string) error {
			asJSON := fs.Bool("json", false, "print JSON")
			if _, err := parse(fs, args, 0, 0); err != nil {
				return err
			}
			v := buildVersion()
			if *asJSON {
				return json.NewEncoder(t.out).Encode(v)
			}
			fmt.Fprintf(t.out, "tallywood %s (%s, %s)\n", v.Version, v.Go, v.Platform)
			if v.Commit != "" {
				fmt.Fprintf(t.out, "commit %s\n", v.Commit)
			}
			return nil
		}}
}

type versionInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func buildVersion() versionInfo {
	v := versionInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Commit = s.Value
			}
		}
	}
	return v
}
