package main

import (
	"context"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"lifeboat/config"
)

// release is the version of this program.
const release = "0.1.0"

// repositoryFormat is the version of the repository format that is written and read.
const repositoryFormat = 1

// versionData is the result of version.
type versionData struct {
	Version          string `json:"version"`
	Commit           string `json:"commit,omitempty"`
	CommittedAt      string `json:"committed_at,omitempty"`
	Modified         bool   `json:"modified,omitempty"`
	Go               string `json:"go"`
	Platform         string `json:"platform"`
	ConfigVersion    int    `json:"config_version"`
	RepositoryFormat int    `json:"repository_format"`

	short bool
}

func (a *app) versionCommand() *cobra.Command {
	var short bool
	c := &cobra.Command{
		Use: "version", Short: "Print version, commit, Go version and formats", Args: cobra.NoArgs,
		Example: "  lifeboat version\n  lifeboat version --short\n  lifeboat version --json",
	}
	c.Flags().BoolVar(&short, "short", false, "print only the version")
	return a.handle(c, func(context.Context, []string) (any, bool, error) {
		return newVersionData(short), false, nil
	})
}

func newVersionData(short bool) versionData {
	v := versionData{
		Version: release, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		ConfigVersion: config.Version, RepositoryFormat: repositoryFormat, short: short,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.CommittedAt = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func (v versionData) text(p *page) {
	if v.short {
		p.line("%s", v.Version)
		return
	}
	p.line("lifeboat %s", v.Version)
	if v.Commit != "" {
		note := ""
		if v.Modified {
			note = " (with local changes)"
		}
		p.line("commit             %s%s", v.Commit, note)
		p.line("committed          %s", v.CommittedAt)
	}
	p.line("go                 %s", v.Go)
	p.line("platform           %s", v.Platform)
	p.line("configuration      version %d", v.ConfigVersion)
	p.line("repository format  version %d", v.RepositoryFormat)
}
