package repo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// stragglerGrace is how long the regions that have answered wait, while a repository
// is opened, for those that have not. With a single region, or with none that has answered, nobody is hurried.
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

// together runs as many things at once as there are graces. Once one of them has
// succeeded, each of the others uses up its grace while it runs, and when there is
// none left, its context ends. What is left of the graces stays in them.
func together(ctx context.Context, grace []time.Duration, run func(ctx context.Context, i int) error) []error {
	errs := make([]error, len(grace))
	first := make(chan struct{})
	var hurry sync.Once
	var wg sync.WaitGroup
	for i := range grace {
		wg.Go(func() {
			allowed := grace[i]
			ctx, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			over, counted := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(counted)
				grace[i] = countDown(first, over, allowed, func() { cancel(errStraggler) })
			}()
			if errs[i] = run(ctx, i); errs[i] == nil {
				hurry.Do(func() { close(first) })
			}
			close(over)
			<-counted
			if errs[i] != nil && errors.Is(context.Cause(ctx), errStraggler) {
				errs[i] = fmt.Errorf("%w (%v): %w", errStraggler, allowed, errs[i])
			}
		})
	}
	wg.Wait()
	return errs
}

// countDown waits for the first to be done, and then takes from left until it is
// over or nothing is left; then it calls late. It gives what is left.
func countDown(first, over <-chan struct{}, left time.Duration, late func()) time.Duration {
	select {
	case <-over:
		return left
	case <-first:
	}
	tick := max(min(left/10, time.Second), time.Millisecond)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for left > 0 {
		select {
		case <-over:
			return left
		case <-ticker.C:
			left -= tick
		}
	}
	late()
	<-over
	return 0
}
