package repo

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestTogether: whoever keeps the others waiting uses up what it was given, and no
// more than that; alone, nobody is hurried.
func TestTogether(t *testing.T) {
	for _, tt := range []struct {
		name        string
		first, took time.Duration // 0: the other one fails at once
		grace, left time.Duration
		late        bool
	}{
		{"in time", time.Second, 11 * time.Second, time.Minute, 50 * time.Second, false},
		{"too late", time.Second, time.Hour, time.Minute, 0, true},
		{"nothing left", time.Second, 2 * time.Second, 0, 0, true},
		{"first itself", time.Hour, time.Second, time.Minute, time.Minute, false},
		{"alone", 0, time.Hour, time.Minute, time.Minute, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				grace := []time.Duration{2 * time.Hour, tt.grace}
				begun := time.Now()
				errs := together(t.Context(), grace, func(ctx context.Context, i int) error {
					if i == 0 && tt.first == 0 {
						return errors.New("refused")
					}
					select {
					case <-time.After([]time.Duration{tt.first, tt.took}[i]):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				})
				if late := errors.Is(errs[1], errStraggler); late != tt.late || !late && errs[1] != nil {
					t.Errorf("late: %v", errs[1])
				}
				if off := (grace[1] - tt.left).Abs(); off > time.Second {
					t.Errorf("%v are left, want %v", grace[1], tt.left)
				}
				if took := time.Since(begun); tt.late && took > tt.first+tt.grace+time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}
