package harness

import (
	"testing"
	"time"
)

const waitMost = 30 * time.Second

// WaitFor asks again until ask has no objection. After half a minute it ends the test.
func WaitFor(t testing.TB, what string, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(waitMost)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s: %v", waitMost, what, err)
		}
		<-tick.C
	}
}
