package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"lifeboat/cmd/lifeboat/daemon"
	"lifeboat/config"
)

// reloads reads the configuration again at each SIGHUP, and hands its jobs to the
// daemon. What cannot be used is refused with all reasons, and changes nothing.
func (a *app) reloads(ctx context.Context, hangups <-chan os.Signal, to chan<- []daemon.Job, svc *service, once bool) {
	for {
		select {
		case <-hangups:
		case <-ctx.Done():
			return
		}
		if once {
			a.log.Warn("SIGHUP: daemon --once reads the configuration at its start only")
			continue
		}
		svc.reload()
		jobs, err := a.reload()
		if err != nil {
			a.refused(err)
			svc.reloaded()
			continue
		}
		select {
		case to <- jobs:
		case <-ctx.Done():
			return
		}
	}
}

// refused says why a new configuration is not taken: one line for each mistake.
func (a *app) refused(err error) {
	reasons := []string{err.Error()}
	var problems config.Problems
	if errors.As(err, &problems) {
		reasons = nil
		for _, p := range problems {
			reasons = append(reasons, p.String())
		}
	}
	for _, reason := range reasons {
		a.log.Error("SIGHUP: the new configuration is refused", "reason", reason)
	}
	a.log.Error("the old configuration stays in force", "next", "correct the new one, test it with: lifeboat config check, and send SIGHUP again")
}

// reload loads and checks the configuration, and puts it into force for jobs that
// have not begun.
func (a *app) reload() ([]daemon.Job, error) {
	path, err := a.configPath()
	if err != nil {
		return nil, err
	}
	file, problems, err := config.Load(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	old, err := a.configured()
	if err != nil {
		return nil, err
	}
	if file.Config.Paths != old.Config.Paths {
		return nil, fmt.Errorf("%s changes paths.state or paths.cache, which a running daemon has locked and in use: restart it", path)
	}
	jobs := a.jobs(&file.Config)
	if len(jobs) == 0 {
		return nil, fmt.Errorf("%s schedules nothing: give a workload, a drill or maintenance a schedule", path)
	}
	a.mu.Lock()
	a.loaded = file
	a.mu.Unlock()
	return jobs, nil
}
