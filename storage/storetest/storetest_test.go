package storetest_test

import (
	"testing"

	"lifeboat/storage"
	"lifeboat/storage/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) storage.Store { return storetest.Memory() })
}

// A wrapper without rules must change nothing.
func TestFaultyWithoutFaults(t *testing.T) {
	storetest.Run(t, func(*testing.T) storage.Store { return storetest.Faulty(storetest.Memory()) })
}

func TestCrashingFarAway(t *testing.T) {
	storetest.Run(t, func(*testing.T) storage.Store {
		return storetest.Crashing(storetest.Memory(), 1<<30, false)
	})
}
