package config

import (
	"cmp"
	"fmt"
	"slices"
)

func (c checker) drills() {
	all := c.config.Drills
	if len(all) > drillsMax {
		c.problem("drills", CodeBadValue, "drills holds %d entries; at most %d are accepted", len(all), drillsMax)
		return
	}
	names := make([]string, len(all))
	drilled := map[string]bool{}
	for i := range all {
		names[i] = all[i].Name
		path := fmt.Sprintf("drills[%d]", i)
		c.drilledWorkloads(&all[i], path, drilled)
		c.drillFrom(&all[i], path)
		c.sandbox(&all[i], path)
		c.verify(&all[i], path)
		if all[i].Schedule != nil {
			c.schedule(all[i].Schedule, path+".schedule")
		}
		if all[i].Key.Kit.FromEnv != "" {
			c.problem(path+".key.from_env", CodeBadValue, "%s.key: a private key does not belong in the environment; use from_file, from_credential or from_command", path)
		}
	}
	c.unique(names, "drills", "name", "a drill")
	c.undrilled(drilled)
}

func (c checker) drilledWorkloads(d *Drill, path string, drilled map[string]bool) {
	list := path + ".workloads"
	if c.ok(list) && len(d.Workloads) == 0 {
		c.problem(list, CodeBadValue, "%s must name at least one workload", list)
	}
	known := make([]string, len(c.config.Workloads))
	for i, w := range c.config.Workloads {
		known[i] = w.Name
	}
	for i, name := range d.Workloads {
		at := fmt.Sprintf("%s[%d]", list, i)
		drilled[name] = true
		if c.broken[at] || c.broken["workloads"] || slices.Contains(known, name) {
			continue
		}
		suggestion := Suggest(name, known)
		hint := ""
		if suggestion != "" {
			hint = fmt.Sprintf("; did you mean %q?", suggestion)
		}
		c.problem(at, CodeReference, "%s: there is no workload %q%s", at, shorten(name), hint).Suggestion = suggestion
	}
	c.unique(d.Workloads, list, "", "an entry")
}

func (c checker) drillFrom(d *Drill, path string) {
	region := d.From.Region
	if c.ok(path+".from.region") && region != RegionAny && region != RegionRotate && c.config.Region(region) == nil {
		words := []string{RegionAny, RegionRotate}
		for _, r := range c.config.Regions.List {
			words = append(words, r.Name)
		}
		suggestion := Suggest(region, words)
		hint := ""
		if suggestion != "" {
			hint = fmt.Sprintf("; did you mean %q?", suggestion)
		}
		at := path + ".from.region"
		c.problem(at, CodeReference, "%s: there is no region %q%s", at, shorten(region), hint).Suggestion = suggestion
	}
	if d.From.Within != 0 && d.From.Point == PointLatest {
		c.problem(path+".from.within", CodeConflict, "%s.from.within needs point: random", path)
	}
}

// usualState is where the state of a host lies that does not say so. Backups leave it out.
const usualState = "/var/lib/lifeboat"

// sandbox refuses folders that drills must not empty.
func (c checker) sandbox(d *Drill, path string) {
	at := path + ".sandbox.path"
	folder := d.Sandbox.Path
	if !c.ok(at) {
		return
	}
	if folder == "" || folder == "/" {
		c.problem(at, CodeBadValue, "%s must name a folder that drills may fill and empty", at)
		return
	}
	for _, w := range c.config.Workloads {
		if w.Volume == nil {
			continue
		}
		for _, p := range w.Volume.Paths {
			switch {
			case p == "":
			case within(p, folder):
				c.problem(at, CodeConflict, "%s contains what workload %q protects (%s), and drills empty the sandbox", at, w.Name, shorten(p))
			case within(folder, p) && !w.Volume.Excludes(folder) && !within(folder, cmp.Or(c.config.Paths.State, usualState)):
				c.warn(at, "%s lies in what workload %q protects (%s), where drills are refused; exclude it, or use a folder below paths.state", at, w.Name, shorten(p))
			}
		}
	}
	for _, r := range c.config.Regions.List {
		where, _, err := parsePlace(r.URL)
		if err == nil && where.scheme == "file" && (within(where.folder, folder) || within(folder, where.folder)) {
			c.problem(at, CodeConflict, "%s overlaps with region %q, and drills empty the sandbox", at, r.Name)
		}
	}
	for key, own := range map[string]string{"paths.state": c.config.Paths.State, "paths.cache": c.config.Paths.Cache} {
		if own != "" && within(own, folder) {
			c.problem(at, CodeConflict, "%s contains %s, and drills empty the sandbox", at, key)
		}
	}
}

func (c checker) verify(d *Drill, path string) {
	names := make([]string, len(d.Verify))
	for i, v := range d.Verify {
		names[i] = v.Name
		at := fmt.Sprintf("%s.verify[%d].run", path, i)
		if c.ok(at) && (len(v.Run) == 0 || v.Run[0] == "") {
			c.problem(at, CodeBadValue, "%s must be a command and its arguments, such as [/usr/local/bin/check, --all]", at)
		}
		if at := fmt.Sprintf("%s.verify[%d].timeout", path, i); c.ok(at) && v.Timeout == 0 {
			c.problem(at, CodeBadValue, "%s must be longer than 0", at)
		}
	}
	c.unique(names, path+".verify", "name", "a check")
}

// undrilled warns of promises that nothing will ever prove.
func (c checker) undrilled(drilled map[string]bool) {
	for i, w := range c.config.Workloads {
		path := fmt.Sprintf("workloads[%d]", i)
		if drilled[w.Name] || (w.Objectives.RTO == 0 && w.Objectives.DrillMaxAge == 0) {
			continue
		}
		key := path + ".objectives.rto"
		if w.Objectives.RTO == 0 {
			key = path + ".objectives.drill_max_age"
		}
		c.warn(key, "%s is promised, but no drill restores %s, so nothing proves it", lastKey(key), c.named(path, w.Name))
	}
}
