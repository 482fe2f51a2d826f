package main

import (
	"errors"
	"slices"
)

// scoped runs fn as a command of its own: what fn opens is closed when it
// returns, its warnings go to this app's log, and what it cost is added to this
// app's requests. The daemon runs each job so.
func (a *app) scoped(fn func(*app) error) error {
	a.mu.Lock()
	loaded := a.loaded // a reload may replace it; what has begun ends by what it began with
	a.mu.Unlock()
	child := &app{stdin: a.stdin, stdout: a.stdout, stderr: a.stderr, getenv: a.getenv, now: a.now, isTTY: a.isTTY, opt: a.opt, viper: a.viper, origins: a.origins,
		log: a.log, events: a.events, progress: newProgress(a.now, noneRenderer{}), started: a.now(), runID: a.runID, kind: a.kind, loaded: loaded, said: map[string]int{}}
	err := fn(child)
	var all []error
	for _, c := range slices.Backward(child.closers) {
		all = append(all, c())
	}
	a.traffic.join(&child.traffic)
	return errors.Join(err, errors.Join(all...))
}
