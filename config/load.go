package config

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
)

// File is a configuration with the places its values came from.
type File struct {
	Name   string // as it was opened
	Config Config

	where     map[string]position
	keys      map[string]position
	broken    map[string]bool
	inherited map[string]string // path → path in the defaults block
}

// Load reads and checks the file name. The error says that it could not be
// read; mistakes inside are Problems, and a File comes back even then.
func Load(name string) (*File, Problems, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration %s: %w", name, err)
	}
	file, problems := Parse(name, data)
	return file, problems, nil
}

// Parse checks data as the file name and reports all mistakes, sorted by line.
// The Config is safe to use only when problems.Err() is nil.
func Parse(name string, data []byte) (*File, Problems) {
	d := &decoder{
		file: name, where: map[string]position{}, keys: map[string]position{}, broken: map[string]bool{},
	}
	file := &File{Name: name, where: d.where, keys: d.keys, broken: d.broken, inherited: map[string]string{}}
	setDefaults(&file.Config)
	if root := d.parseNodes(data); root != nil {
		d.decode(root, reflect.ValueOf(&file.Config).Elem(), "", 0)
		if !d.broken[""] {
			file.inherit()
			check(d, file)
		}
	}
	if len(d.problems) == problemsMax {
		d.problems[problemsMax-1].Message += " (further problems are not shown)"
	}
	d.problems.sort()
	return file, d.problems
}

// setDefaults fills what the file need not say. v points to a fresh value.
func setDefaults(v any) {
	switch v := v.(type) {
	case *Config:
		v.VerifyWrites = VerifyFull
	case *Volume:
		v.ExcludeCaches = true
	case *Schedule:
		v.CatchUp = true
	case *CheckJob:
		v.Schedule.CatchUp = true
	case *SyncJob:
		v.Schedule.CatchUp = true
	case *Drill:
		v.From = DrillFrom{Region: RegionAny, Point: PointLatest}
		v.Key = DrillKey{Installed: true}
	case *Check:
		v.Timeout = Duration(CheckTimeoutDefault)
	}
}

// inherit copies the defaults block into the workloads that are silent, and
// chooses how many regions are required.
func (f *File) inherit() {
	c := &f.Config
	for i := range c.Workloads {
		w := &c.Workloads[i]
		path := fmt.Sprintf("workloads[%d]", i)
		if _, given := f.where[path+".schedule"]; !given && c.Defaults.Schedule != nil {
			copied := *c.Defaults.Schedule
			w.Schedule = &copied
			f.inherited[path+".schedule"] = "defaults.schedule"
		}
		for _, part := range []struct {
			key  string
			to   *Duration
			from Duration
		}{
			{"rpo", &w.Objectives.RPO, c.Defaults.Objectives.RPO},
			{"rto", &w.Objectives.RTO, c.Defaults.Objectives.RTO},
			{"drill_max_age", &w.Objectives.DrillMaxAge, c.Defaults.Objectives.DrillMaxAge},
		} {
			key := path + ".objectives." + part.key
			if _, given := f.where[key]; !given && part.from != 0 {
				*part.to = part.from
				f.inherited[key] = "defaults.objectives." + part.key
			}
		}
	}
	if _, given := f.where["regions.required"]; !given {
		c.Regions.Required = min(2, counted(c.Regions.List))
	}
}

// counted is how many regions may count towards required.
func counted(regions []Region) int {
	n := 0
	for _, r := range regions {
		if !r.Optional {
			n++
		}
	}
	return n
}

// Origin says where the value at path came from: "file:line" or "default".
func (f *File) Origin(path string) string {
	if from, ok := f.inherited[path]; ok {
		return f.Origin(from) + " (" + from + ")"
	}
	for from, to := range f.inherited { // below an inherited group
		if rest, ok := strings.CutPrefix(path, from+"."); ok {
			return f.Origin(to+"."+rest) + " (" + to + ")"
		}
	}
	if pos, ok := f.where[path]; ok {
		return fmt.Sprintf("%s:%d", f.Name, pos.line)
	}
	return "default"
}
