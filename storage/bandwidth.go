package storage

import (
	"context"
	"io"
	"sync"
	"time"
)

// Bandwidth limits what flows to and from a region.
type Bandwidth struct {
	Up, Down int64                                            // bytes per second; 0 means no limit
	Now      func() time.Time                                 // the clock; required
	Sleep    func(ctx context.Context, d time.Duration) error // nil means Sleep
}

// WithBandwidth keeps the mean rate at the limits. A Put waits until what was
// sent before is paid for and is then sent at once: single requests are bursts.
// A body is slowed down as it is read.
func WithBandwidth(s Store, b Bandwidth) Store {
	if b.Sleep == nil {
		b.Sleep = Sleep
	}
	return &throttled{
		Store: s,
		up:    &meter{rate: b.Up, now: b.Now, sleep: b.Sleep},
		down:  &meter{rate: b.Down, now: b.Now, sleep: b.Sleep},
	}
}

type throttled struct {
	Store
	up, down *meter
}

func (t *throttled) Put(ctx context.Context, key string, data []byte, sum [32]byte) error {
	if err := t.up.pay(ctx, len(data)); err != nil {
		return err
	}
	return t.Store.Put(ctx, key, data, sum)
}

func (t *throttled) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error) {
	body, info, err := t.Store.Get(ctx, key, offset, length)
	if err != nil || t.down.rate <= 0 {
		return body, info, err
	}
	return &metered{ReadCloser: body, ctx: ctx, meter: t.down}, info, nil
}

type metered struct {
	io.ReadCloser
	ctx   context.Context
	meter *meter
}

// meteredRead bounds one read in bytes, so that the rate is smooth.
const meteredRead = 64 << 10

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p[:min(len(p), meteredRead)])
	if n > 0 {
		if perr := m.meter.pay(m.ctx, n); perr != nil {
			return n, perr
		}
	}
	return n, err
}

// meter spreads bytes over time: each payment reserves the time its bytes take,
// and waits for the end of what was reserved before.
type meter struct {
	rate  int64 // bytes per second
	now   func() time.Time
	sleep func(ctx context.Context, d time.Duration) error

	mu   sync.Mutex
	free time.Time // when everything reserved so far is paid
}

func (m *meter) pay(ctx context.Context, n int) error {
	if m.rate <= 0 {
		return nil
	}
	m.mu.Lock()
	now := m.now()
	if m.free.Before(now) {
		m.free = now
	}
	wait := m.free.Sub(now)
	m.free = m.free.Add(time.Duration(float64(n) / float64(m.rate) * float64(time.Second)))
	m.mu.Unlock()
	return m.sleep(ctx, wait)
}
