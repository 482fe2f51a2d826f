// Package storetest helps to test stores and what is built on them: a
// conformance suite, a reference store in memory, and wrappers that fail as
// told. Only tests import it. It does not imitate any real service's manners.
package storetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"lifeboat/storage"
)

// Mem is the reference Store, in memory. Use Memory to make one.
type Mem struct {
	mu      sync.RWMutex
	objects map[string]memObject
	puts    int64
}

type memObject struct {
	data []byte
	at   time.Time
}

// Memory makes an empty reference store.
func Memory() *Mem { return &Mem{objects: make(map[string]memObject)} }

// Put implements storage.Store.
func (m *Mem) Put(ctx context.Context, key string, data []byte, _ [32]byte) error {
	if err := ready(ctx, "put", key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set(key, data)
	return nil
}

// set stores a copy. Its clock counts puts, so that tests need none.
func (m *Mem) set(key string, data []byte) {
	m.puts++
	m.objects[key] = memObject{data: bytes.Clone(data), at: time.Unix(m.puts, 0)}
}

// Get implements storage.Store.
func (m *Mem) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	if err := ready(ctx, "get", key); err != nil {
		return nil, storage.Info{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	o, ok := m.objects[key]
	if !ok {
		return nil, storage.Info{}, fmt.Errorf("get %s: %w", key, storage.ErrNotFound)
	}
	start, n, err := storage.Span(int64(len(o.data)), offset, length)
	if err != nil {
		return nil, storage.Info{}, fmt.Errorf("get %s: %w", key, err)
	}
	return io.NopCloser(bytes.NewReader(o.data[start : start+n])), o.info(key), nil
}

// Stat implements storage.Store.
func (m *Mem) Stat(ctx context.Context, key string) (storage.Info, error) {
	if err := ready(ctx, "stat", key); err != nil {
		return storage.Info{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	o, ok := m.objects[key]
	if !ok {
		return storage.Info{}, fmt.Errorf("stat %s: %w", key, storage.ErrNotFound)
	}
	return o.info(key), nil
}

// List implements storage.Store.
func (m *Mem) List(ctx context.Context, opt storage.ListOptions) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if err := storage.CheckPrefix(opt.Prefix); err != nil {
			yield(storage.Info{}, fmt.Errorf("list: %w", err))
			return
		}
		for _, info := range m.listing(opt) {
			if err := ctx.Err(); err != nil {
				yield(storage.Info{}, fmt.Errorf("list %s: %w", opt.Prefix, err))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (m *Mem) listing(opt storage.ListOptions) []storage.Info {
	m.mu.RLock()
	defer m.mu.RUnlock()
	found := make(map[string]storage.Info)
	for key, o := range m.objects {
		rest, ok := strings.CutPrefix(key, opt.Prefix)
		if !ok {
			continue
		}
		info := o.info(key)
		if i := strings.IndexByte(rest, '/'); opt.Delimited && i >= 0 {
			info = storage.Info{Key: key[:len(opt.Prefix)+i+1], Dir: true}
		}
		if info.Key > opt.StartAfter {
			found[info.Key] = info
		}
	}
	infos := make([]storage.Info, 0, len(found))
	for _, key := range slices.Sorted(maps.Keys(found)) {
		infos = append(infos, found[key])
	}
	return infos
}

// Delete implements storage.Store.
func (m *Mem) Delete(ctx context.Context, key string) error {
	if err := ready(ctx, "delete", key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return nil
}

// Keys gives the keys under a prefix, sorted.
func (m *Mem) Keys(prefix string) []string {
	var keys []string
	for _, info := range m.listing(storage.ListOptions{Prefix: prefix}) {
		keys = append(keys, info.Key)
	}
	return keys
}

// Bytes gives a copy of an object; nil if there is none.
func (m *Mem) Bytes(key string) []byte {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return bytes.Clone(m.objects[key].data)
}

// Change replaces an object behind the back of everybody: rot, or an attack.
func (m *Mem) Change(key string, change func(data []byte) []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set(key, change(bytes.Clone(m.objects[key].data)))
}

// Clone gives an independent copy of the store: another region, or a moment to
// come back to.
func (m *Mem) Clone() *Mem {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return &Mem{objects: maps.Clone(m.objects), puts: m.puts}
}

func (o memObject) info(key string) storage.Info {
	return storage.Info{Key: key, Size: int64(len(o.data)), ModTime: o.at}
}

func ready(ctx context.Context, verb, key string) error {
	err := ctx.Err()
	if err == nil {
		err = storage.CheckKey(key)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, key, err)
	}
	return nil
}
