// Package config is the configuration file: its types, its strict reading with
// every mistake reported at once by line and column, its defaults and sense
// checks, its references to secrets, and its schedules as pure arithmetic.
//
// It does not look for the file, read flags or the environment on its own, open
// regions, or know what any command does with a value.
package config

import "time"

// Version is the only file version this package reads.
const Version = 1

// Limits of a file. They keep a mistaken or hostile file from costing memory.
const (
	fileBytesMax   = 4 << 20 // size of a configuration file
	depthMax       = 32      // nesting of YAML nodes
	problemsMax    = 200     // reported per file; one more says that there are others
	regionsMax     = 16
	workloadsMax   = 10_000
	drillsMax      = 10_000
	connectionsMax = 256
	cpuMax         = 1024
	textMax        = 4096      // bytes of any one text value
	secretBytesMax = 256 << 10 // size of a secret, wherever it comes from
)

// Config is a whole configuration, defaults filled in.
type Config struct {
	Version      int         `json:"version" jsonschema:"required,enum=1" doc:"version of this file's format"`
	Instance     Instance    `json:"instance" doc:"this installation"`
	Regions      Regions     `json:"regions" jsonschema:"required" doc:"the independent places that each hold a complete copy"`
	Repository   Repository  `json:"repository" doc:"which repository the regions hold; printed by init"`
	Keys         Keys        `json:"keys" doc:"private keys installed on this host"`
	Defaults     Defaults    `json:"defaults" doc:"used by every workload that does not say otherwise"`
	Workloads    []Workload  `json:"workloads" doc:"what is protected"`
	Drills       []Drill     `json:"drills,omitempty" doc:"restores into a sandbox that prove the backups"`
	Maintenance  Maintenance `json:"maintenance,omitzero" doc:"checks and catching up"`
	VerifyWrites string      `json:"verify_writes" oneof:"full,sample,off" doc:"open and compare frames again before they are sent"`
	Paths        Paths       `json:"paths" doc:"folders of lifeboat itself"`
}

// Instance names this installation.
type Instance struct {
	Name     string `json:"name,omitempty" form:"name" doc:"shown in snapshots; default: the host name"`
	Timezone string `json:"timezone,omitempty" form:"timezone" doc:"IANA zone for schedules and text output, such as Europe/Berlin; default: the host's"`
}

// Regions lists the regions, in order of preference for reading.
type Regions struct {
	Required int      `json:"required" doc:"a backup counts only when this many regions have it; default 2, or 1 with a single region"`
	List     []Region `json:"list" jsonschema:"required" doc:"the regions, in order of preference for reading"`
}

// Region is one independent place.
type Region struct {
	Name     string       `json:"name" form:"name" jsonschema:"required" doc:"short name"`
	URL      string       `json:"url" jsonschema:"required" doc:"file:///path or s3://bucket/prefix"`
	S3       *S3          `json:"s3,omitempty" doc:"how to reach an s3:// region; the same may be said in the URL's query"`
	Limits   RegionLimits `json:"limits,omitzero" doc:"what this region may use"`
	Optional bool         `json:"optional,omitempty" doc:"does not count towards required; its lag is still shown"`
}

// S3 says how to reach a bucket. Credentials not given come from the profile,
// or from the ambient AWS chain.
type S3 struct {
	Region          string     `json:"region,omitempty" doc:"region of the bucket, such as eu-central-1"`
	Endpoint        string     `json:"endpoint,omitempty" form:"endpoint" doc:"https://host[:port] of a server other than AWS"`
	PathStyle       bool       `json:"path_style,omitempty" doc:"put the bucket into the path, as most servers other than AWS want"`
	Profile         string     `json:"profile,omitempty" doc:"profile of the AWS credentials file"`
	AccessKeyID     *SecretRef `json:"access_key_id,omitempty" doc:"reference to the access key id"`
	SecretAccessKey *SecretRef `json:"secret_access_key,omitempty" doc:"reference to the secret access key"`
	CAFile          string     `json:"ca_file,omitempty" form:"abspath" doc:"PEM file of further certificate authorities"`
}

// RegionLimits bounds the use of one region. Zero is no limit (connections: the default).
type RegionLimits struct {
	Connections int  `json:"connections,omitempty" doc:"requests at once; 0 is the default"`
	Upload      Size `json:"upload,omitempty" doc:"bytes per second, such as 80MiB; 0 is no limit"`
	Download    Size `json:"download,omitempty" doc:"bytes per second; 0 is no limit"`
}

// Repository pins the repository, so that a swapped region is refused.
type Repository struct {
	ID      string `json:"id,omitempty" form:"repoid" doc:"64 hex digits"`
	RootKey string `json:"root_key,omitempty" form:"rootkey" doc:"public root key, lbr1…"`
}

// Keys refers to private keys on this host.
type Keys struct {
	DataIdentity *SecretRef `json:"data_identity,omitempty" private:"true" doc:"opens contents; only on hosts that restore or run drills"`
}

// Defaults are inherited by workloads, field by field, one level only.
type Defaults struct {
	Schedule   *Schedule  `json:"schedule,omitempty" doc:"when to take snapshots"`
	Objectives Objectives `json:"objectives,omitzero" doc:"what was promised"`
	Limits     CPULimits  `json:"limits,omitzero" doc:"what a run may use of this host"`
}

// CPULimits bounds what a run takes from the host.
type CPULimits struct {
	CPU int `json:"cpu,omitempty" doc:"cores; 0 is all"`
}

// Objectives are promises. Zero means none was made.
type Objectives struct {
	RPO         Duration `json:"rpo,omitempty" doc:"the most data, as time, that may be lost"`
	RTO         Duration `json:"rto,omitempty" doc:"the longest a restore may take"`
	DrillMaxAge Duration `json:"drill_max_age,omitempty" doc:"the oldest a successful drill may be"`
}

// Workload is one thing to protect.
type Workload struct {
	Name        string            `json:"name" form:"name" jsonschema:"required" doc:"short name"`
	Description string            `json:"description,omitempty" doc:"for people"`
	Kind        string            `json:"kind" jsonschema:"required" oneof:"volume" doc:"what it is"`
	Tags        map[string]string `json:"tags,omitempty" doc:"free labels"`
	Objectives  Objectives        `json:"objectives,omitzero" doc:"what was promised"`
	Schedule    *Schedule         `json:"schedule,omitempty" doc:"when to take snapshots; none: only by hand"`
	Volume      *Volume           `json:"volume,omitempty" doc:"the files of a volume"`
	AllowEmpty  bool              `json:"allow_empty,omitempty" doc:"it may hold no files at all; otherwise a drill that restores none fails"`
}

// Volume is a set of directory trees.
type Volume struct {
	Paths            []string `json:"paths" form:"abspath" jsonschema:"required" doc:"absolute paths"`
	Exclude          []string `json:"exclude,omitempty" form:"exclude" doc:"globs; without a slash they match base names"`
	ExcludeIfPresent []string `json:"exclude_if_present,omitempty" form:"basename" doc:"skip folders that hold a file of this name"`
	ExcludeCaches    bool     `json:"exclude_caches" doc:"skip folders with a CACHEDIR.TAG; default true"`
	OneFileSystem    bool     `json:"one_file_system,omitempty" doc:"do not descend into other file systems"`
	PageFiles        []string `json:"page_files,omitempty" form:"glob" doc:"globs of files to cut at fixed 32 KiB, beside those recognised"`
}

// Drill is a restore into a sandbox that is checked and timed.
type Drill struct {
	Name       string          `json:"name" form:"name" jsonschema:"required" doc:"short name"`
	Workloads  []string        `json:"workloads" jsonschema:"required" doc:"names of workloads"`
	Schedule   *Schedule       `json:"schedule,omitempty" doc:"when to run; none: only by hand"`
	From       DrillFrom       `json:"from" doc:"what is restored"`
	Key        DrillKey        `json:"key" private:"true" doc:"installed, or a reference to a recovery kit"`
	Sandbox    Sandbox         `json:"sandbox" jsonschema:"required" doc:"where it is restored to"`
	Objectives DrillObjectives `json:"objectives,omitzero" doc:"default: those of the workload"`
	Verify     []Check         `json:"verify,omitempty" doc:"commands that must succeed in the restored tree"`
}

// DrillFrom chooses what a drill restores.
type DrillFrom struct {
	Region string   `json:"region" doc:"name of a region, rotate (each in turn) or any (all at once); default any"`
	Point  string   `json:"point" oneof:"latest,random" doc:"which recovery point; default latest"`
	Within Duration `json:"within,omitempty" doc:"with random: no older than this"`
}

// DrillObjectives override the workload's for one drill.
type DrillObjectives struct {
	RPO Duration `json:"rpo,omitempty" doc:"the most data, as time, that may be lost"`
	RTO Duration `json:"rto,omitempty" doc:"the longest the restore may take"`
}

// Sandbox is where a drill restores to.
type Sandbox struct {
	Path string `json:"path" form:"abspath" jsonschema:"required" doc:"folder that drills may fill and empty"`
}

// Check is one command of a drill. It runs in the restored tree, without a
// shell, and passes when it exits 0 within Timeout. What it has started ends with it.
type Check struct {
	Name    string   `json:"name" form:"title" jsonschema:"required" doc:"what is proved"`
	Run     []string `json:"run" jsonschema:"required" doc:"command and arguments; no shell"`
	Timeout Duration `json:"timeout,omitempty" doc:"default 5m"`
}

// Maintenance is the daemon's own work.
type Maintenance struct {
	Check *CheckJob `json:"check,omitempty" doc:"verify what is stored"`
	Sync  *SyncJob  `json:"sync,omitempty" doc:"catch up regions that were away"`
}

// CheckJob verifies what is stored.
type CheckJob struct {
	Schedule Schedule `json:"schedule" jsonschema:"required" doc:"when to check"`
	ReadData Amount   `json:"read_data,omitzero" doc:"how much is read back: none (default), 3%, 10GiB or all"`
}

// SyncJob catches up regions that were away.
type SyncJob struct {
	Schedule Schedule `json:"schedule" jsonschema:"required" doc:"when to look"`
}

// Paths are lifeboat's own folders.
type Paths struct {
	State string `json:"state,omitempty" form:"abspath" doc:"keys of this host and what it must remember"`
	Cache string `json:"cache,omitempty" form:"abspath" doc:"what may be lost at the price of time"`
}

// CheckTimeoutDefault is how long a drill's command may run when the file does
// not say.
const CheckTimeoutDefault = 5 * time.Minute

// Words of DrillFrom.
const (
	RegionAny    = "any"
	RegionRotate = "rotate"
	PointLatest  = "latest"
	PointRandom  = "random"
)

// Words of Config.VerifyWrites.
const (
	VerifyFull   = "full"
	VerifySample = "sample"
	VerifyOff    = "off"
)

// KindVolume is the only workload kind of this version.
const KindVolume = "volume"

// Workload finds a workload by name; nil if there is none.
func (c *Config) Workload(name string) *Workload {
	for i := range c.Workloads {
		if c.Workloads[i].Name == name {
			return &c.Workloads[i]
		}
	}
	return nil
}

// Region finds a region by name; nil if there is none.
func (c *Config) Region(name string) *Region {
	for i := range c.Regions.List {
		if c.Regions.List[i].Name == name {
			return &c.Regions.List[i]
		}
	}
	return nil
}

// Drill finds a drill by name; nil if there is none.
func (c *Config) Drill(name string) *Drill {
	for i := range c.Drills {
		if c.Drills[i].Name == name {
			return &c.Drills[i]
		}
	}
	return nil
}

// Location is the zone of schedules and text: the configured one, else local.
func (c *Config) Location(local *time.Location) (*time.Location, error) {
	if c.Instance.Timezone == "" {
		return local, nil
	}
	return loadZone(c.Instance.Timezone)
}
