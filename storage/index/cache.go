package index

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	cacheShards    = 16
	cacheBlocksMin = 4 // of a shard
)

// cache keeps blocks of run files that were read and found whole. Its memory is
// one mapping outside the Go heap, touched as it fills, so that the collector
// neither scans it nor doubles it.
type cache struct {
	memory  []byte
	shards  [cacheShards]shard
	buffers sync.Pool // of *[blockSize]byte, for what is read while no lock is held
}

type shard struct {
	mu    sync.Mutex
	where map[uint64]uint32 // block name → slot
	names []uint64          // of each slot
	used  []bool            // looked at since the hand passed
	data  []byte
	hand  uint32
}

// newCache makes a cache of about size bytes.
func newCache(size int) (*cache, error) {
	slots := max(size/blockSize/cacheShards, cacheBlocksMin)
	memory, err := unix.Mmap(-1, 0, slots*cacheShards*blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of block cache: %w", slots*cacheShards*blockSize, err)
	}
	c := &cache{memory: memory}
	c.buffers.New = func() any { return new([blockSize]byte) }
	for i := range c.shards {
		c.shards[i] = shard{
			where: make(map[uint64]uint32),
			names: make([]uint64, 0, slots),
			used:  make([]bool, slots),
			data:  memory[i*slots*blockSize : (i+1)*slots*blockSize],
		}
	}
	return c, nil
}

func (c *cache) close() error {
	if c.memory == nil {
		return nil
	}
	memory := c.memory
	c.memory = nil
	return unix.Munmap(memory)
}

// view calls look with the payload of a block, from the cache or read anew. The
// payload is valid during the call, which must be short and must not come back
// to the cache.
func (c *cache) view(r *run, block uint32, look func(payload []byte)) error {
	name := r.id<<32 | uint64(block)
	s := &c.shards[(name*0x9e3779b97f4a7c15)>>60]
	s.mu.Lock()
	if slot, ok := s.where[name]; ok {
		s.used[slot] = true
		look(s.slot(slot)[:blockPayload])
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	buf := c.buffers.Get().(*[blockSize]byte)
	defer c.buffers.Put(buf)
	if err := r.readBlocks(buf[:], block); err != nil {
		return err
	}
	s.insert(name, buf)
	look(buf[:blockPayload])
	return nil
}

func (s *shard) slot(i uint32) []byte { return s.data[int(i)*blockSize:][:blockSize] }

// insert keeps a block, in place of one that was not looked at for long.
func (s *shard) insert(name uint64, block *[blockSize]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.where[name]; ok {
		return // another reader was faster
	}
	var slot uint32
	if len(s.names) < cap(s.names) {
		slot = uint32(len(s.names))
		s.names = append(s.names, name)
	} else {
		slot = s.evict()
		s.names[slot] = name
	}
	s.where[name] = slot
	copy(s.slot(slot), block[:])
}

// evict frees a slot: the first one, from the hand on, that was not looked at
// since the hand last passed it.
func (s *shard) evict() uint32 {
	for {
		i := s.hand
		s.hand = (s.hand + 1) % uint32(len(s.names))
		if !s.used[i] {
			delete(s.where, s.names[i])
			return i
		}
		s.used[i] = false
	}
}
