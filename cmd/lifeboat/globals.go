package main

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"lifeboat/config"
)

// options are the global flags, resolved: flag, then LIFEBOAT_*, then default.
type options struct {
	Config         string
	Repos          []string
	IdentityFiles  []string
	PassphraseFile string
	Region         string
	Output         string
	Events         string
	Progress       string
	Color          string
	DryRun         bool
	Yes            bool
	Confirm        string
	NoInput        bool
	LockWait       time.Duration
	Timeout        time.Duration
	RunID          string
	UTC            bool
	Quiet          bool
	Verbose        int
	LogFile        string
	LogFormat      string
}

// Output formats.
const (
	formatText  = "text"
	formatWide  = "wide"
	formatJSON  = "json"
	formatJSONL = "jsonl"
	formatYAML  = "yaml"
	formatName  = "name"
)

// isJSON reports whether stderr carries events instead of text.
func (o options) isJSON() bool { return o.Output == formatJSON || o.Output == formatJSONL }

// durationFlag is a pflag value that knows days and weeks.
type durationFlag time.Duration

func (d *durationFlag) String() string { return config.Duration(*d).String() }
func (d *durationFlag) Type() string   { return "duration" }
func (d *durationFlag) Set(text string) error {
	v, err := config.ParseDuration(text)
	*d = durationFlag(v)
	return err
}

// durationVar adds a flag that takes 15m, 1h30m, 30d or 2w.
func durationVar(flags *pflag.FlagSet, p *time.Duration, name string, value time.Duration, usage string) {
	*p = value
	flags.Var((*durationFlag)(p), name, usage)
}

// addGlobalFlags declares the flags that every command has.
func addGlobalFlags(flags *pflag.FlagSet) {
	flags.StringP("config", "c", "", "configuration file (LIFEBOAT_CONFIG)")
	flags.StringArray("repo", nil, "open a repository without a configuration file: `URL`; repeat for several regions")
	flags.StringArray("identity-file", nil, "age identity or recovery kit used to decrypt: `PATH`, repeatable; \"-\" reads stdin")
	flags.String("passphrase-file", "", "file with the passphrase of the identity")
	flags.String("region", "", "read from the region of this `NAME` only")
	flags.StringP("output", "o", formatText, "`FORMAT`: text, wide, json, jsonl, yaml or name")
	flags.Bool("json", false, "same as --output json")
	flags.String("events", "", "event stream to `DEST`: stderr (default with --json), a file, fd:N or none")
	flags.String("progress", "auto", "`MODE`: auto, bar, plain or none")
	flags.String("color", "auto", "`WHEN`: auto, always or never")
	flags.BoolP("dry-run", "n", false, "show what would happen, change nothing")
	flags.BoolP("yes", "y", false, "answer yes to ordinary confirmations")
	flags.String("confirm", "", "answer a dangerous confirmation by naming its target: `NAME`")
	flags.Bool("no-input", false, "never prompt")
	var lockWait, timeout time.Duration
	durationVar(flags, &lockWait, "lock-wait", 0, "wait this long for another operation to finish")
	durationVar(flags, &timeout, "timeout", 0, "give up after this long")
	flags.String("run-id", "", "`ID` of this run in results and events; backup does nothing twice with the same one")
	flags.Bool("utc", false, "print times in UTC")
	flags.BoolP("quiet", "q", false, "print less")
	flags.CountP("verbose", "v", "print more; -vv for debugging")
	flags.String("log-file", "", "write the log to this file")
	flags.String("log-format", "text", "`FORMAT` of the log: text or json")
	flags.String("state-dir", "", "folder of this host's keys and memory (paths.state)")
	flags.String("cache-dir", "", "folder of what may be lost (paths.cache)")
}

// configKeys are the global flags that also have a place in the file. The
// value of the file lies below flag and environment, and above the default.
func configKeys() map[string]string {
	return map[string]string{"state-dir": "paths.state", "cache-dir": "paths.cache"}
}

// notFromEnvironment are flags whose answer must be given each time.
func notFromEnvironment() []string { return []string{"confirm", "help", "json"} }

// envName is the variable of a flag: lock-wait is LIFEBOAT_LOCK_WAIT.
func envName(flag string) string {
	return "LIFEBOAT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// guessOptions looks for the output format in raw arguments, so that even a
// command line that cannot be parsed is answered in the form that was asked for.
func guessOptions(args []string, getenv func(string) string) options {
	o := options{Output: formatText}
	if env := getenv(envName("output")); env == formatJSON || env == formatJSONL {
		o.Output = env
	}
	for i, arg := range args {
		value := ""
		switch {
		case arg == "--":
			return o
		case arg == "--events" && i+1 < len(args):
			o.Events = args[i+1]
		case strings.HasPrefix(arg, "--events="):
			o.Events = strings.TrimPrefix(arg, "--events=")
		case arg == "--json" || arg == "--json=true":
			value = formatJSON
		case (arg == "-o" || arg == "--output") && i+1 < len(args):
			value = args[i+1]
		case strings.HasPrefix(arg, "--output="):
			value = strings.TrimPrefix(arg, "--output=")
		case strings.HasPrefix(arg, "-o"):
			value = strings.TrimPrefix(strings.TrimPrefix(arg, "-o"), "=")
		}
		if value == formatJSON || value == formatJSONL {
			o.Output = value
		}
	}
	return o
}

// resolve settles every global flag through viper: flag, environment, file, default.
func (a *app) resolve(c *cobra.Command) error {
	flags := c.Root().PersistentFlags()
	layer := flagLayer{set: flags, fromEnv: map[string]bool{}}
	var bad error
	flags.VisitAll(func(f *pflag.Flag) {
		value := a.getenv(envName(f.Name))
		switch {
		case f.Changed:
			a.origins[f.Name] = "flag --" + f.Name
		case value != "" && !slices.Contains(notFromEnvironment(), f.Name):
			if err := f.Value.Set(value); err != nil && bad == nil {
				bad = &Fail{Code: Usage, Message: fmt.Sprintf("%s: %v", envName(f.Name), err), Hint: "correct or unset the variable"}
			}
			layer.fromEnv[f.Name] = true
			a.origins[f.Name] = "environment " + envName(f.Name)
		}
	})
	if bad != nil {
		return bad
	}
	if err := a.viper.BindFlagValues(layer); err != nil {
		return fmt.Errorf("bind flags: %w", err)
	}
	a.viper.SetDefault("paths.state", a.defaultDir("STATE_DIRECTORY", "XDG_STATE_HOME", ".local/state", "/var/lib/lifeboat"))
	a.viper.SetDefault("paths.cache", a.defaultDir("CACHE_DIRECTORY", "XDG_CACHE_HOME", ".cache", "/var/cache/lifeboat"))
	a.opt = a.readOptions()
	if a.opt.RunID != "" {
		a.runID = a.opt.RunID
	}
	return a.checkOptions(c)
}

func (a *app) readOptions() options {
	v := a.viper
	duration := func(key string) time.Duration {
		d, _ := config.ParseDuration(v.GetString(key)) // the flag has parsed it before
		return d
	}
	o := options{
		Config: v.GetString("config"), Repos: v.GetStringSlice("repo"), IdentityFiles: v.GetStringSlice("identity-file"),
		PassphraseFile: v.GetString("passphrase-file"), Region: v.GetString("region"), Output: v.GetString("output"),
		Events: v.GetString("events"), Progress: v.GetString("progress"), Color: v.GetString("color"),
		DryRun: v.GetBool("dry-run"), Yes: v.GetBool("yes"), Confirm: v.GetString("confirm"), NoInput: v.GetBool("no-input"),
		LockWait: duration("lock-wait"), Timeout: duration("timeout"), RunID: v.GetString("run-id"), UTC: v.GetBool("utc"),
		Quiet: v.GetBool("quiet"), Verbose: v.GetInt("verbose"), LogFile: v.GetString("log-file"), LogFormat: v.GetString("log-format"),
	}
	if v.GetBool("json") {
		o.Output = formatJSON
	}
	return o
}

// listsKey marks commands whose result is a list with names.
const listsKey = "lists"

// lists marks a command as one whose records can be named and streamed, which
// allows -o name and -o jsonl.
func (a *app) lists(c *cobra.Command) *cobra.Command {
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	c.Annotations[listsKey] = "true"
	return c
}

func (a *app) checkOptions(c *cobra.Command) error {
	o := a.opt
	for _, f := range []struct {
		flag, value string
		words       []string
	}{
		{"output", o.Output, []string{formatText, formatWide, formatJSON, formatJSONL, formatYAML, formatName}},
		{"progress", o.Progress, []string{"auto", "bar", "plain", "none"}},
		{"color", o.Color, []string{"auto", "always", "never"}},
		{"log-format", o.LogFormat, []string{"text", "json"}},
	} {
		if !slices.Contains(f.words, f.value) {
			return &Fail{Code: Usage, Message: fmt.Sprintf("--%s must be one of %s, got %q", f.flag, strings.Join(f.words, ", "), f.value),
				Hint: suggestWord(f.value, f.words)}
		}
	}
	if (o.Output == formatName || o.Output == formatJSONL) && c.Annotations[listsKey] == "" {
		return &Fail{Code: Usage, Message: fmt.Sprintf("--output %s is only for commands that list things", o.Output), Hint: "use --output json"}
	}
	if c.Root().PersistentFlags().Changed("json") && c.Root().PersistentFlags().Changed("output") && a.viper.GetString("output") != formatJSON {
		return &Fail{Code: Usage, Message: "--json and --output exclude each other", Hint: "give one of them"}
	}
	if o.Config != "" && len(o.Repos) > 0 && a.origins["config"] != "environment "+envName("config") {
		return &Fail{Code: Usage, Message: "--config and --repo exclude each other", Hint: "give one of them"}
	}
	return nil
}

func suggestWord(word string, words []string) string {
	if s := config.Suggest(word, words); s != "" {
		return fmt.Sprintf("did you mean %q?", s)
	}
	return ""
}

// defaultDir chooses a folder: systemd's, the system's for root, else the user's.
func (a *app) defaultDir(systemd, xdg, home, system string) string {
	if dir, _, _ := strings.Cut(a.getenv(systemd), ":"); filepath.IsAbs(dir) {
		return dir
	}
	if os.Geteuid() == 0 {
		return system
	}
	if dir := a.getenv(xdg); filepath.IsAbs(dir) {
		return filepath.Join(dir, "lifeboat")
	}
	if dir := a.getenv("HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, home, "lifeboat")
	}
	return system
}

// stateDir is where this host keeps its keys and its memory.
func (a *app) stateDir() string { return a.viper.GetString("paths.state") }

// cacheDir is where what may be lost lies.
func (a *app) cacheDir() string { return a.viper.GetString("paths.cache") }

// flagLayer shows pflag's flags to viper; those set by LIFEBOAT_* count as set,
// which puts the environment below flags and above the file, and keeps viper
// away from the process environment.
type flagLayer struct {
	set     *pflag.FlagSet
	fromEnv map[string]bool
}

// VisitAll shows viper each flag, under its place in the file if it has one.
func (l flagLayer) VisitAll(fn func(viper.FlagValue)) {
	l.set.VisitAll(func(f *pflag.Flag) {
		name := f.Name
		if key, ok := configKeys()[name]; ok {
			name = key
		}
		fn(flagView{f, name, f.Changed || l.fromEnv[f.Name]})
	})
}

// flagView is one flag as viper sees it.
type flagView struct {
	flag *pflag.Flag
	name string
	set  bool
}

func (f flagView) HasChanged() bool { return f.set }
func (f flagView) Name() string     { return f.name }

func (f flagView) ValueString() string {
	if s, ok := f.flag.Value.(pflag.SliceValue); ok {
		var b strings.Builder
		w := csv.NewWriter(&b)
		_ = w.Write(s.GetSlice()) // a builder does not fail
		w.Flush()
		return "[" + strings.TrimSuffix(b.String(), "\n") + "]"
	}
	return f.flag.Value.String()
}

func (f flagView) ValueType() string { return f.flag.Value.Type() }
