package harness

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// sampleEvery is how often memory is looked at. A peak that is shorter is not seen.
const sampleEvery = 10 * time.Millisecond

// memory follows a process's anonymous memory: what it holds of its own, not
// the pages of files it has mapped.
type memory struct {
	quit chan struct{}
	peak chan int64
}

// watchMemory begins to sample until stop.
func watchMemory(pid int) *memory {
	m := &memory{quit: make(chan struct{}), peak: make(chan int64, 1)}
	go func() {
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		var most int64
		for {
			select {
			case <-m.quit:
				m.peak <- most
				return
			case <-tick.C:
				most = max(most, anonymous(pid))
			}
		}
	}()
	return m
}

// stop gives the peak in bytes. It is called once.
func (m *memory) stop() int64 {
	close(m.quit)
	return <-m.peak
}

// anonymous is RssAnon of a process in bytes, 0 when it has gone.
func anonymous(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		if rest, ok := bytes.CutPrefix(lines.Bytes(), []byte("RssAnon:")); ok {
			kib, err := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte("kB")))), 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
