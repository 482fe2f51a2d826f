package repo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// stragglerGrace is how long the regions that have answered wait for those that
// have not. With a single region, or with none that has answered, nobody is hurried.
const stragglerGrace = 20 * time.Second

// errStraggler is why a region was given up that others had to wait for.
var errStraggler = errors.New("too slow: the other regions waited for it")

// atOnce runs things that do not depend on each other at once, and waits for all
// of them. Of several errors it gives that of the first in the order given.
func atOnce(ctx context.Context, runs ...func(ctx context.Context) error) error {
	errs := make([]error, len(runs))
	var wg sync.WaitGroup
	for i, run := range runs {
		wg.Go(func() { errs[i] = run(ctx) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// together runs n things at once. Once one of them has succeeded, the others get
// the grace, and then their context ends.
func together(ctx context.Context, n int, grace time.Duration, run func(ctx context.Context, i int) error) []error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errs := make([]error, n)
	var hurry sync.Once
	var timer *time.Timer
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			errs[i] = run(ctx, i)
			if errs[i] == nil {
				hurry.Do(func() { timer = time.AfterFunc(grace, func() { cancel(errStraggler) }) })
				return
			}
			if cause := context.Cause(ctx); errors.Is(cause, errStraggler) {
				errs[i] = fmt.Errorf("%w (%v): %w", errStraggler, grace, errs[i])
			}
		})
	}
	wg.Wait()
	if timer != nil {
		timer.Stop()
	}
	return errs
}
