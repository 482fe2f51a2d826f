package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
)

// checker looks at a decoded file as a whole: cross-references and sense.
type checker struct {
	*decoder
	file   *File
	config *Config
}

func check(d *decoder, f *File) {
	c := checker{d, f, &f.Config}
	if c.ok("version") && c.config.Version != Version {
		c.problem("version", CodeBadValue, "version must be %d, got %d", Version, c.config.Version)
	}
	c.regions()
	c.defaults()
	c.workloads()
	c.drills()
	c.maintenance()
	c.pins()
}

// ok reports that path was given and could be read.
func (c checker) ok(path string) bool {
	_, given := c.where[path]
	return given && !c.broken[path]
}

// problem reports at the value of path, or at the nearest thing above it.
func (c checker) problem(path, code, format string, args ...any) *Problem {
	return c.add(c.locate(path), path, code, format, args...)
}

// warn is problem for what is legal and looks unintended.
func (c checker) warn(path, format string, args ...any) {
	c.problem(path, CodeSense, format, args...).Severity = Warning
}

func (c checker) locate(path string) position {
	if from, ok := c.file.inherited[path]; ok {
		path = from
	}
	for p := path; p != ""; p = parent(p) {
		if pos, ok := c.where[p]; ok {
			if p != path {
				pos = c.key(p, pos)
			}
			return pos
		}
	}
	return position{line: 1, column: 1}
}

func (c checker) key(path string, otherwise position) position {
	if pos, ok := c.keys[path]; ok {
		return pos
	}
	return otherwise
}

func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

func (c checker) regions() {
	regions := c.config.Regions.List
	if !c.ok("regions.list") {
		return
	}
	if len(regions) == 0 || len(regions) > regionsMax {
		c.problem("regions.list", CodeBadValue, "regions.list must hold 1 to %d regions, got %d", regionsMax, len(regions))
	}
	names := make([]string, len(regions))
	places := make([]*place, len(regions))
	for i := range regions {
		path := fmt.Sprintf("regions.list[%d]", i)
		names[i] = regions[i].Name
		places[i] = c.region(&regions[i], path)
		if n := regions[i].Name; n == RegionAny || n == RegionRotate {
			c.problem(path+".name", CodeConflict, "%s.name: %q has a meaning of its own in drills; choose another name", path, n)
		}
	}
	c.unique(names, "regions.list", "name", "a region")
	c.apart(places, names)
	c.required()
}

func (c checker) required() {
	most := counted(c.config.Regions.List)
	required := c.config.Regions.Required
	if c.ok("regions.required") {
		switch {
		case required < 1:
			c.problem("regions.required", CodeBadValue, "regions.required must be at least 1, got %d", required)
		case required > most:
			c.problem("regions.required", CodeConflict, "regions.required is %d, but only %d of the regions count (those that are not optional)", required, most)
		}
	} else if most == 0 && len(c.config.Regions.List) > 0 {
		c.problem("regions.list", CodeConflict, "regions.list: every region is optional, so no backup could ever count")
	}
	if len(c.config.Regions.List) == 1 {
		c.warn("regions.list", "regions.list has a single region: when it is lost, everything is")
	}
}

// region checks one region; nil when its place is not known.
func (c checker) region(r *Region, path string) *place {
	if l := r.Limits.Connections; l < 0 || l > connectionsMax {
		c.problem(path+".limits.connections", CodeBadValue, "%s.limits.connections must be 0 to %d, got %d", path, connectionsMax, l)
	}
	if !c.ok(path + ".url") {
		return nil
	}
	where, query, err := parsePlace(r.URL)
	if err != nil {
		c.problem(path+".url", CodeBadValue, "%s.url %v", path, err)
		return nil
	}
	if r.S3 == nil {
		return &where
	}
	if where.scheme != "s3" {
		c.problem(path+".s3", CodeConflict, "%s.s3 is only for s3:// regions; this one is a directory", path)
		return &where
	}
	c.s3(r.S3, query, path)
	if r.S3.Endpoint != "" {
		where.endpoint = hostOf(r.S3.Endpoint)
	}
	return &where
}

// s3 refuses what is said twice, and half a pair of keys.
func (c checker) s3(s *S3, query url.Values, path string) {
	for _, key := range queryKeys() {
		if query.Has(key) && c.ok(path+".s3."+key) {
			c.problem(path+".s3."+key, CodeConflict, "%s.s3.%s is also in the URL; say it once", path, key)
		}
	}
	id, secret := s.AccessKeyID != nil, s.SecretAccessKey != nil
	if id != secret {
		c.problem(path+".s3", CodeConflict, "%s.s3 needs both access_key_id and secret_access_key, or neither", path)
	}
	if (id || secret) && (s.Profile != "" || query.Get("profile") != "") {
		c.problem(path+".s3.profile", CodeConflict, "%s.s3 has both a profile and keys; give one", path)
	}
}

// apart refuses regions that would be lost together.
func (c checker) apart(places []*place, names []string) {
	for i, a := range places {
		for j, b := range places[:i] {
			if a == nil || b == nil {
				continue
			}
			path := fmt.Sprintf("regions.list[%d].url", i)
			switch {
			case a.overlaps(*b):
				c.problem(path, CodeConflict, "regions %q and %q are the same place, or one lies inside the other; they would be lost together", names[j], names[i])
			case a.sameBucket(*b):
				c.warn(path, "regions %q and %q share a bucket, and would be lost together", names[j], names[i])
			}
		}
	}
}

// unique refuses repeated names, with the line of the first.
func (c checker) unique(names []string, list, key, what string) {
	first := map[string]int{}
	for i, name := range names {
		path := fmt.Sprintf("%s[%d]", list, i)
		if key != "" {
			path += "." + key
		}
		if name == "" || c.broken[path] {
			continue
		}
		if j, again := first[name]; again {
			earlier := strings.Replace(path, fmt.Sprintf("[%d]", i), fmt.Sprintf("[%d]", j), 1)
			c.problem(path, CodeDuplicate, "%s is %q, but %s of that name is already on line %d", path, name, what, c.where[earlier].line)
			continue
		}
		first[name] = i
	}
}

func (c checker) defaults() {
	if s := c.config.Defaults.Schedule; s != nil {
		c.schedule(s, "defaults.schedule")
	}
	if n := c.config.Defaults.Limits.CPU; n < 0 || n > cpuMax {
		c.problem("defaults.limits.cpu", CodeBadValue, "defaults.limits.cpu must be 0 to %d, got %d", cpuMax, n)
	}
}

// schedule checks one schedule; the timetable is the zero value if it is wrong.
func (c checker) schedule(s *Schedule, path string) Timetable {
	for _, key := range []string{"", ".cron", ".every", ".jitter"} {
		if c.broken[path+key] {
			return Timetable{}
		}
	}
	loc, err := c.config.Location(time.UTC)
	if err != nil {
		loc = time.UTC
	}
	table, err := s.In(loc)
	if err != nil {
		at := path
		for _, key := range []string{".cron", ".every"} {
			if c.ok(path + key) {
				at = path + key
			}
		}
		c.problem(at, CodeBadValue, "%s: %v", path, err)
		return Timetable{}
	}
	if gap := table.LongestGap(referenceTime()); s.Jitter.Value() >= gap && gap > 0 {
		c.problem(path+".jitter", CodeConflict, "%s.jitter of %s is as long as the time between runs (%s)", path, s.Jitter, Duration(gap))
	}
	return table
}

// referenceTime is where schedules are sampled: a leap year that begins on a Monday.
func referenceTime() time.Time { return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) }

func (c checker) workloads() {
	all := c.config.Workloads
	if len(all) > workloadsMax {
		c.problem("workloads", CodeBadValue, "workloads holds %d entries; at most %d are accepted", len(all), workloadsMax)
		return
	}
	names := make([]string, len(all))
	checked := map[Schedule]Timetable{}
	for i := range all {
		names[i] = all[i].Name
		path := fmt.Sprintf("workloads[%d]", i)
		c.volume(&all[i], path)
		c.cadence(&all[i], path, checked)
	}
	c.unique(names, "workloads", "name", "a workload")
	c.paths()
	if len(all) == 0 && !c.broken["workloads"] {
		c.warn("workloads", "there are no workloads: nothing is protected")
	}
}

func (c checker) volume(w *Workload, path string) {
	if w.Kind != KindVolume {
		return
	}
	if w.Volume == nil {
		if !c.broken[path+".volume"] {
			c.problem(path, CodeMissing, "%s.volume is missing: which paths are to be protected?", path)
		}
		return
	}
	list := path + ".volume.paths"
	if c.ok(list) && len(w.Volume.Paths) == 0 {
		c.problem(list, CodeBadValue, "%s must hold at least one path", list)
	}
	for i, p := range w.Volume.Paths {
		if p == "" && !c.broken[fmt.Sprintf("%s[%d]", list, i)] {
			c.problem(fmt.Sprintf("%s[%d]", list, i), CodeBadValue, "%s[%d] must not be empty", list, i)
		}
		for j, q := range w.Volume.Paths[:i] {
			if p != "" && q != "" && (within(p, q) || within(q, p)) {
				c.problem(fmt.Sprintf("%s[%d]", list, i), CodeConflict, "%s[%d] overlaps with %s[%d] (%s)", list, i, list, j, shorten(q))
			}
		}
	}
}

// cadence compares the schedule with the promise.
func (c checker) cadence(w *Workload, path string, checked map[Schedule]Timetable) {
	if w.Schedule == nil {
		if w.Objectives.RPO > 0 && !c.broken[path+".schedule"] {
			c.warn(path, "%s promises an RPO of %s but has no schedule; it depends on runs by hand", c.named(path, w.Name), w.Objectives.RPO)
		}
		return
	}
	table, known := checked[*w.Schedule]
	if _, inherited := c.file.inherited[path+".schedule"]; !inherited {
		table, known = c.schedule(w.Schedule, path+".schedule"), true
	} else if !known {
		if loc, err := c.config.Location(time.UTC); err == nil {
			table, _ = w.Schedule.In(loc)
		}
	}
	checked[*w.Schedule] = table
	rpo := w.Objectives.RPO.Value()
	gap := table.LongestGap(referenceTime())
	if rpo == 0 || gap == 0 || c.broken[path+".objectives.rpo"] {
		return
	}
	at := path + ".objectives.rpo"
	switch {
	case gap > rpo:
		c.problem(at, CodeSense, "%s is %s but the schedule leaves up to %s between runs; it can never be met", at, w.Objectives.RPO, Duration(gap)).
			Suggestion = fmt.Sprintf("schedule: {every: %s}, or raise the objective", Duration(rpo/2))
	case gap+w.Schedule.Jitter.Value() >= rpo:
		c.warn(at, "%s is %s and the schedule leaves up to %s between runs; there is no time left for the run itself", at, w.Objectives.RPO, Duration(gap+w.Schedule.Jitter.Value()))
	}
}

// named is the path with the name that people know.
func (c checker) named(path, name string) string {
	if name == "" {
		return path
	}
	return fmt.Sprintf("%s (%s)", path, name)
}

// paths compares workloads with each other and with the regions on this host.
func (c checker) paths() {
	owner := map[string]string{}
	for i, w := range c.config.Workloads {
		if w.Volume == nil {
			continue
		}
		for j, p := range w.Volume.Paths {
			path := fmt.Sprintf("workloads[%d].volume.paths[%d]", i, j)
			if p == "" || c.broken[path] {
				continue
			}
			clean := filepath.Clean(p)
			if other, taken := owner[clean]; taken && other != w.Name {
				c.problem(path, CodeConflict, "%s: %s is already protected by workload %q", path, shorten(p), other)
			}
			owner[clean] = w.Name
			c.besideRegions(w.Volume, clean, path)
		}
	}
}

func (c checker) besideRegions(v *Volume, clean, path string) {
	for _, r := range c.config.Regions.List {
		where, _, err := parsePlace(r.URL)
		if err != nil || where.scheme != "file" {
			continue
		}
		switch {
		case within(clean, where.folder):
			c.problem(path, CodeConflict, "%s lies inside region %q: a region cannot be a source", path, r.Name)
		case within(where.folder, clean) && !v.Excludes(where.folder):
			c.warn(path, "%s contains region %q, which is left out of the backup; exclude %s to say that this is meant", path, r.Name, where.folder)
		}
	}
}

// Excludes says that a folder, or one that it lies in, is named by an exclude glob.
func (v *Volume) Excludes(folder string) bool {
	return slices.ContainsFunc(v.Exclude, func(glob string) bool {
		for f := folder; f != "/" && f != "."; f = filepath.Dir(f) {
			if ok, _ := doublestar.Match(glob, f); ok || (!strings.Contains(glob, "/") && glob == filepath.Base(f)) {
				return true
			}
		}
		ok, _ := doublestar.Match(glob, folder+"/x")
		return ok
	})
}

func (c checker) maintenance() {
	if m := c.config.Maintenance.Check; m != nil {
		c.schedule(&m.Schedule, "maintenance.check.schedule")
	}
	if m := c.config.Maintenance.Sync; m != nil {
		c.schedule(&m.Schedule, "maintenance.sync.schedule")
	}
}

// pins checks what belongs together, and that private keys are not in the environment.
func (c checker) pins() {
	if r := c.config.Repository; (r.ID == "") != (r.RootKey == "") && !c.broken["repository.id"] && !c.broken["repository.root_key"] {
		c.problem("repository", CodeMissing, "repository needs both id and root_key, as init printed them")
	}
	if ref := c.config.Keys.DataIdentity; ref != nil && ref.FromEnv != "" {
		c.problem("keys.data_identity.from_env", CodeBadValue, "keys.data_identity: a private key does not belong in the environment; use from_file, from_credential or from_command")
	}
}
