package snapshot_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// More workers than pack buffers: nobody waits for a buffer that nobody gives back.
func TestManyWorkersShareFewBuffers(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	rng := newRand(1)
	for i := range 64 {
		data := make([]byte, 200<<10)
		for j := range data {
			data[j] = byte(rng.Uint32())
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%02d", i)), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	within(t, "a backup with many workers", func() {
		if _, _, err := w.try(t.Context(), dir, attempt{workers: 6, required: 3}); err != nil {
			t.Error(err)
		}
	})
}
