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
