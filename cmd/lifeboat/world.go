package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lifeboat/config"
)

// configName is the file that is looked for.
const configName = "lifeboat.yaml"

// configPath finds the configuration file: --config or LIFEBOAT_CONFIG, else
// the user's, else the system's. The current directory is not searched, since a
// file found by chance may name commands to run.
func (a *app) configPath() (string, error) {
	if a.opt.Config != "" {
		return a.opt.Config, nil
	}
	places := a.configPlaces()
	for _, path := range places {
		_, err := os.Stat(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return "", &Fail{Code: ConfigInvalid, Message: fmt.Sprintf("look for the configuration: %v", err), Hint: "name it with --config FILE", Err: err}
		}
	}
	hint := "name it with --config FILE, or open a repository with --repo URL --identity-file KIT"
	if a.coldStart() {
		hint = "this command needs to know the workloads, which --repo does not tell: name a configuration with --config FILE instead"
	}
	return "", &Fail{Code: ConfigInvalid, Message: "no configuration file: looked for " + strings.Join(places, " and "), Hint: hint}
}

func (a *app) configPlaces() []string {
	system := filepath.Join("/etc/lifeboat", configName)
	if os.Geteuid() == 0 {
		return []string{system}
	}
	dir := a.getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(a.getenv("HOME"), ".config")
	}
	if !filepath.IsAbs(dir) {
		return []string{system}
	}
	return []string{filepath.Join(dir, "lifeboat", configName), system}
}

// configured loads and checks the configuration, once. Mistakes give exit 78.
func (a *app) configured() (*config.File, error) {
	a.mu.Lock()
	loaded := a.loaded
	a.mu.Unlock()
	if loaded != nil {
		return loaded, nil
	}
	path, err := a.configPath()
	if err != nil {
		return nil, err
	}
	file, problems, err := config.Load(path)
	if err != nil {
		return nil, &Fail{Code: ConfigInvalid, Message: err.Error(), Hint: "name the file with --config FILE", Err: err}
	}
	if err := problems.Err(); err != nil {
		return nil, &Fail{Code: ConfigInvalid, Message: err.Error(), Hint: "run: lifeboat config check " + path, Err: err}
	}
	if err := a.adopt(file); err != nil {
		return nil, err
	}
	return file, nil
}

// adopt gives viper the file's values of the keys that flags can override.
func (a *app) adopt(file *config.File) error {
	paths := map[string]any{}
	if dir := file.Config.Paths.State; dir != "" {
		paths["state"] = dir
	}
	if dir := file.Config.Paths.Cache; dir != "" {
		paths["cache"] = dir
	}
	if err := a.viper.MergeConfigMap(map[string]any{"paths": paths}); err != nil {
		return fmt.Errorf("merge configuration: %w", err)
	}
	a.mu.Lock()
	a.loaded = file
	a.mu.Unlock()
	return nil
}

// coldStart reports that --repo stands in for a configuration.
func (a *app) coldStart() bool { return len(a.opt.Repos) > 0 }

// origin says where the effective value of a key came from.
func (a *app) origin(file *config.File, path string) string {
	for flag, key := range configKeys() {
		if key == path && a.origins[flag] != "" {
			return a.origins[flag]
		}
	}
	return file.Origin(path)
}

// zone is the time zone of text: UTC with --utc, else the configured, else the host's.
func (a *app) zone() *time.Location {
	if a.opt.UTC {
		return time.UTC
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.loaded != nil {
		if loc, err := a.loaded.Config.Location(a.localZone()); err == nil {
			return loc
		}
	}
	return a.localZone()
}

// localZone is the host's zone; TZ comes through getenv so that tests can choose.
func (a *app) localZone() *time.Location {
	if name := a.getenv("TZ"); name != "" {
		if loc, err := time.LoadLocation(strings.TrimPrefix(name, ":")); err == nil {
			return loc
		}
	}
	return time.Local
}

// parseTime reads a time as a user writes it, in the zone of text.
func (a *app) parseTime(text string) (time.Time, error) {
	a.settleZone()
	return parseTime(text, a.now(), a.zone())
}

// settleZone loads the configuration if there is one, since it may name the
// zone that times are meant in. What is wrong with it is told by who needs it.
func (a *app) settleZone() {
	if !a.coldStart() && !a.opt.UTC {
		_, _ = a.configured()
	}
}

// workload finds a configured workload by name.
func (a *app) workload(name string) (*config.Workload, error) {
	file, err := a.configured()
	if err != nil {
		return nil, err
	}
	if w := file.Config.Workload(name); w != nil {
		return w, nil
	}
	names := workloadNames(&file.Config)
	hint := "configured are: " + strings.Join(names[:min(len(names), 20)], ", ")
	if s := config.Suggest(name, names); s != "" {
		hint = fmt.Sprintf("did you mean %q?", s)
	}
	return nil, &Fail{Code: Usage, Message: fmt.Sprintf("there is no workload %q in the configuration", name), Hint: hint}
}

// workloads finds several by name, in the order of the configuration. Without
// names it gives all of them if all is set, or the only one there is.
func (a *app) workloads(names []string, all bool) ([]*config.Workload, error) {
	file, err := a.configured()
	if err != nil {
		return nil, err
	}
	list := file.Config.Workloads
	if len(names) > 0 && all {
		return nil, &Fail{Code: Usage, Message: "--all and names exclude each other", Hint: "give one of them"}
	}
	if len(names) == 0 && !all && len(list) != 1 {
		return nil, &Fail{Code: Usage, Message: "which workload?", Hint: "name one of " + strings.Join(workloadNames(&file.Config), ", ") + ", or give --all"}
	}
	wanted := map[string]bool{}
	for _, name := range names {
		if _, err := a.workload(name); err != nil {
			return nil, err
		}
		wanted[name] = true
	}
	var out []*config.Workload
	for i := range list {
		if len(names) == 0 || wanted[list[i].Name] {
			out = append(out, &list[i])
		}
	}
	return out, nil
}

func workloadNames(c *config.Config) []string {
	names := make([]string, len(c.Workloads))
	for i, w := range c.Workloads {
		names[i] = w.Name
	}
	return names
}

// drill finds a configured drill by name.
func (a *app) drill(name string) (*config.Drill, error) {
	file, err := a.configured()
	if err != nil {
		return nil, err
	}
	if d := file.Config.Drill(name); d != nil {
		return d, nil
	}
	names := make([]string, len(file.Config.Drills))
	for i, d := range file.Config.Drills {
		names[i] = d.Name
	}
	hint := "configured are: " + strings.Join(names, ", ")
	if s := config.Suggest(name, names); s != "" {
		hint = fmt.Sprintf("did you mean %q?", s)
	}
	return nil, &Fail{Code: Usage, Message: fmt.Sprintf("there is no drill %q in the configuration", name), Hint: hint}
}
