package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"lifeboat/cmd/lifeboat/daemon"
	"lifeboat/config"
)

// Stages of jobs that are due together: what is stored first is checked and
// drilled after.
const (
	stageBackup = iota
	stageSync
	stageCheck
	stageDrill
)

const (
	backupPrefix = "backup "
	drillPrefix  = "drill "
	retryAfter   = 5 * time.Minute
	stopWithin   = 4 * time.Minute // under systemd's TimeoutStopSec=5min
)

func (a *app) daemonCommand() *cobra.Command {
	var once bool
	c := &cobra.Command{
		Use: "daemon", Short: "Run schedules, replication, checks and drills", Args: cobra.NoArgs,
		Long: "Run backups, sync, checks and drills by the configuration's schedules. Missed runs are caught up once at\n" +
			"the start. SIGTERM stops cleanly: what is stored is kept, and what was not committed is done again.\n" +
			"SIGHUP reads the configuration again; jobs at work end as they began, and a file with mistakes is refused\n" +
			"with the reasons, while the old one stays in force.\n" +
			"Under systemd (Type=notify or notify-reload) it tells when it is ready, reloads or stops, and what it does.\n" +
			"--once runs what is due and exits, for cron and Kubernetes.",
		Example: "  lifeboat daemon\n  lifeboat daemon --once",
	}
	c.Flags().BoolVar(&once, "once", false, "run what is due, then exit")
	return a.handle(c, func(ctx context.Context, _ []string) (any, bool, error) { return a.daemon(ctx, once) })
}

// daemonData is the result of daemon --once.
type daemonData struct {
	Ran      []daemonRan     `json:"ran"`
	Requests []regionTraffic `json:"requests,omitempty"` // of all jobs together
}

type daemonRan struct {
	Job   string `json:"job"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

func (a *app) daemon(ctx context.Context, once bool) (any, bool, error) {
	file, err := a.configured()
	if err != nil {
		return nil, false, err
	}
	if err := os.MkdirAll(a.stateDir(), 0o700); err != nil {
		return nil, false, fmt.Errorf("make state folder: %w", err)
	}
	unlock, err := a.lockDaemon()
	if err != nil {
		return nil, false, err
	}
	defer unlock()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	reload := make(chan []daemon.Job)
	svc := &service{a: a}
	go a.reloads(ctx, hangups, reload, svc, once)
	if a.opt.LockWait == 0 {
		a.opt.LockWait = daemonLockWait
	}
	opt := daemon.Options{Jobs: a.jobs(&file.Config), Batch: a.batch, History: a.historyPath(), Now: a.now, Spread: a.spread(), StopWithin: stopWithin, Reload: reload, Events: a.daemonEvents()}
	if len(opt.Jobs) == 0 {
		return nil, false, &Fail{Code: ConfigInvalid, Message: "nothing is scheduled", Hint: "give a workload, a drill or maintenance a schedule"}
	}
	if !once {
		opt.Events = svc.listen(opt.Events)
		last := svc.stopWith(ctx)
		err := daemon.Run(ctx, opt)
		last()
		if cause := context.Cause(ctx); err == nil && cause != nil {
			var sig interruption
			if errors.As(cause, &sig) {
				return nil, false, &Fail{Code: sig.code(), Message: "stopped", Hint: "what was stored is kept; start it again to go on", Err: cause}
			}
		}
		return nil, false, err
	}
	results, err := daemon.Once(ctx, opt)
	d := &daemonData{Ran: []daemonRan{}}
	var all []error
	for _, j := range opt.Jobs {
		jerr, ran := results[j.Name]
		if !ran {
			continue
		}
		row := daemonRan{Job: j.Name, OK: jerr == nil}
		if jerr != nil {
			row.Error = jerr.Error()
			all = append(all, jerr)
		}
		d.Ran = append(d.Ran, row)
	}
	if set, serr := a.regions(); serr == nil { // the jobs would have failed by it
		d.Requests = a.traffic.report(set.Regions)
	}
	return d, len(d.Ran) > 0, errors.Join(append(all, err)...)
}

// daemonLockWait is how long a job waits for a run by hand of the same workload.
const daemonLockWait = 5 * time.Minute

// lockDaemon makes sure that one daemon runs on one state folder.
func (a *app) lockDaemon() (func(), error) {
	f, err := os.OpenFile(filepath.Join(a.stateDir(), "daemon.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock daemon: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, &Fail{Code: Locked, Message: "another daemon runs with this state folder", Hint: "stop it first, or give this one another paths.state", Err: err}
	}
	return func() { f.Close() }, nil
}

// spread places this host in every jitter window, the same at each start.
func (a *app) spread() float64 {
	h := fnv.New32a()
	h.Write([]byte(a.hostName()))
	return float64(h.Sum32()) / float64(1<<32)
}

// jobs lists what the configuration schedules.
func (a *app) jobs(c *config.Config) []daemon.Job {
	zone, err := c.Location(a.localZone())
	if err != nil {
		zone = time.UTC // config check has refused the zone already
	}
	var out []daemon.Job
	add := func(name string, s *config.Schedule, stage int, run func(context.Context) error) {
		if s == nil {
			return
		}
		table, err := s.In(zone)
		if err != nil {
			a.warn("schedule", fmt.Sprintf("%s never runs: %v", name, err)) // config check has refused it already
			return
		}
		out = append(out, daemon.Job{Name: name, Next: table.Next, Jitter: time.Duration(s.Jitter), CatchUp: s.CatchUp, Retry: retryAfter, Stage: stage, Run: run})
	}
	for i := range c.Workloads {
		add(backupPrefix+c.Workloads[i].Name, c.Workloads[i].Schedule, stageBackup, nil)
	}
	if m := c.Maintenance.Sync; m != nil {
		add("sync", &m.Schedule, stageSync, func(ctx context.Context) error {
			return a.scoped(func(j *app) error { _, _, err := j.sync(ctx, nil, false); return err })
		})
	}
	if m := c.Maintenance.Check; m != nil {
		add("check", &m.Schedule, stageCheck, func(ctx context.Context) error {
			return a.scoped(func(j *app) error { return j.checkRound(ctx, m.ReadData) })
		})
	}
	for i := range c.Drills {
		d := c.Drills[i]
		add(drillPrefix+d.Name, d.Schedule, stageDrill, func(ctx context.Context) error {
			return a.scoped(func(j *app) error {
				plans, err := j.drillPlans([]string{d.Name}, drillFlags{})
				if err != nil {
					return err
				}
				_, _, err = j.drills(ctx, plans)
				return err
			})
		})
	}
	return out
}

// batch runs all backups that are due together in one session.
func (a *app) batch(ctx context.Context, names []string) map[string]error {
	out := map[string]error{}
	var plain []string
	for _, n := range names {
		plain = append(plain, strings.TrimPrefix(n, backupPrefix))
	}
	err := a.scoped(func(j *app) error {
		ws, err := j.workloads(plain, false)
		if err != nil {
			return err
		}
		data, _, err := j.backup(ctx, ws, backupFlags{})
		if d, ok := data.(*backupData); ok && d != nil {
			rows := d.Workloads
			if len(rows) == 0 {
				rows = []backupOne{d.backupOne}
			}
			for _, o := range rows {
				if o.Err != "" {
					out[backupPrefix+o.Workload] = errors.New(o.Err)
				}
			}
		}
		return err
	})
	if err != nil && len(out) == 0 {
		for _, n := range names {
			out[n] = err
		}
	}
	return out
}

func (a *app) daemonEvents() daemon.Events {
	return daemon.Events{
		Started: func(name string, late time.Duration) { a.log.Info("started", "job", name, "late", late) },
		Finished: func(name string, took time.Duration, err error) {
			if err != nil {
				a.log.Error("failed", "job", name, "took", took, "error", err)
				return
			}
			a.log.Info("done", "job", name, "took", took)
		},
		Skipped: func(name string, due time.Time) { a.log.Warn("missed, not caught up", "job", name, "due", due) },
		Clock:   func(name string, ahead time.Duration) { a.log.Warn("the clock went back", "job", name, "by", ahead) },
		History: func(err error) { a.log.Error("history", "error", err) },
		Waiting: func(next time.Time) {
			if !next.IsZero() {
				a.log.Debug("waiting", "until", next)
			}
		},
		Reloaded: func(jobs int, err error) {
			if err != nil {
				a.log.Error("the new jobs are refused, the old ones stay", "error", err)
				return
			}
			a.log.Info("the new configuration is in force", "jobs", jobs)
		},
	}
}

func (d *daemonData) text(p *page) {
	if len(d.Ran) == 0 {
		p.line("Nothing is due.")
	}
	for _, r := range d.Ran {
		if r.OK {
			p.line("%s", p.mark(markOK, r.Job))
			continue
		}
		p.line("%s", p.mark(markBad, r.Job+": "+r.Error))
	}
}
