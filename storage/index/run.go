package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"

	"golang.org/x/sys/unix"
)

// A run is one immutable file: packs sorted by hash, their frames and chunks in
// the same order, the keys of all chunks sorted in groups, each with fences and
// a filter behind it, and the names of index objects. Frames know their pack,
// keys their frame, all by number within the run.
//
//	block 0   header: magic, nonce
//	          packs, frames, ids, [keys, fences and filter of a group]…, names, fences of packs and names
//	last      footer: where everything is
type run struct {
	runFile
	file   *os.File
	packs  table
	frames table
	ids    table
	names  table
	groups []group
	memory []byte // of the filters: one mapping outside the Go heap
	chunks int
}

// runFile is what the state file knows of a run.
type runFile struct {
	id     uint64 // grows with time, below runsMax
	nonce  uint64 // random; bound into every checksum
	blocks uint32
}

// group is a stretch of sorted keys with its filter.
type group struct {
	keys   table
	filter filter
}

const (
	runsMax      = 1 << 32 // ids, so that an id and a block make one number
	groupsMax    = 128     // of a run; the footer has room for these
	footerHead   = 8 + 4*13
	footerGroup  = 4 * 4
	runMagic     = "lifeboat index run 1\n"
	footerMagic  = "lbrun1\x00\x00"
	blocksMax    = 1 << 30 // of a run
	groupKeysMax = 1 << 28 // entries of a group
)

const _ = uint(blockPayload - footerHead - groupsMax*footerGroup)

func runName(id uint64) string { return fmt.Sprintf("run-%08x", id) }

// openRun opens a run and reads its footer, fences and filters.
func openRun(path string, rf runFile) (*run, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: file is missing", runName(rf.id), ErrDamaged)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", runName(rf.id), err)
	}
	r := &run{runFile: rf, file: file}
	if err := r.load(); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *run) close() error {
	err := r.file.Close()
	if r.memory != nil {
		err = errors.Join(err, unix.Munmap(r.memory))
		r.memory, r.groups = nil, nil
	}
	return err
}

func (r *run) damaged(format string, args ...any) error {
	return fmt.Errorf("%s: %w: %s", runName(r.id), ErrDamaged, fmt.Sprintf(format, args...))
}

// readBlocks fills buf with whole blocks from number first on, and checks them.
func (r *run) readBlocks(buf []byte, first uint32) error {
	if _, err := r.file.ReadAt(buf, int64(first)*blockSize); err != nil {
		if errors.Is(err, io.EOF) {
			return r.damaged("ends before block %d", uint64(first)+uint64(len(buf)/blockSize))
		}
		return fmt.Errorf("read %s: %w", runName(r.id), err)
	}
	for i := 0; i < len(buf); i += blockSize {
		if n := first + uint32(i/blockSize); !checkBlock(buf[i:i+blockSize], r.nonce, n) {
			return r.damaged("checksum of block %d", n)
		}
	}
	return nil
}

// readBlob reads n bytes of payload from block first on into buf's space.
func (r *run) readBlob(buf []byte, first, n uint32) ([]byte, error) {
	buf = buf[:0]
	var block [blockSize]byte
	for n > 0 {
		if err := r.readBlocks(block[:], first); err != nil {
			return nil, err
		}
		part := min(n, blockPayload)
		buf = append(buf, block[:part]...)
		first, n = first+1, n-part
	}
	return buf, nil
}

func (r *run) load() error {
	info, err := r.file.Stat()
	if err != nil {
		return fmt.Errorf("open %s: %w", runName(r.id), err)
	}
	if r.blocks < 2 || r.blocks > blocksMax || info.Size() != int64(r.blocks)*blockSize {
		return r.damaged("%d bytes, want %d", info.Size(), int64(r.blocks)*blockSize)
	}
	var block [blockSize]byte
	if err := r.readBlocks(block[:], 0); err != nil {
		return err
	}
	if !bytes.HasPrefix(block[:], []byte(runMagic)) {
		return r.damaged("not a run")
	}
	if err := r.readBlocks(block[:], r.blocks-1); err != nil {
		return err
	}
	return r.loadFooter(block[:blockPayload])
}

// words takes a row of 32-bit numbers apart.
type words []byte

func (w *words) next() uint32 {
	v := binary.LittleEndian.Uint32(*w)
	*w = (*w)[4:]
	return v
}

func (r *run) loadFooter(footer []byte) error {
	if string(footer[:8]) != footerMagic {
		return r.damaged("no footer")
	}
	w := words(footer[8:])
	for _, t := range []struct {
		*table
		size uint32
	}{{&r.packs, packEntry}, {&r.frames, frameSize}, {&r.ids, idEntry}, {&r.names, nameEntry}} {
		*t.table = table{first: w.next(), count: w.next(), size: t.size}
		if err := r.checkTable(t.table); err != nil {
			return err
		}
	}
	packFences, nameFences, chunks, groups, filters := w.next(), w.next(), w.next(), w.next(), w.next()
	if groups > groupsMax || uint64(filters) > uint64(r.blocks)*blockPayload {
		return r.damaged("%d groups, %d bytes of filters", groups, filters)
	}
	if chunks != r.ids.count {
		return r.damaged("%d chunks, %d ids", chunks, r.ids.count)
	}
	r.chunks = int(chunks)
	buf, err := r.loadFences(&r.packs, packFences, nil)
	if err != nil {
		return err
	}
	if buf, err = r.loadFences(&r.names, nameFences, buf); err != nil {
		return err
	}
	return r.loadGroups(w, int(groups), int(filters), buf)
}

// checkTable checks that a table lies within the run.
func (r *run) checkTable(t *table) error {
	if uint64(t.first)+uint64(t.blocks()) > uint64(r.blocks)-1 || t.first == 0 {
		return r.damaged("table at block %d with %d entries", t.first, t.count)
	}
	return nil
}

func (r *run) loadFences(t *table, first uint32, buf []byte) ([]byte, error) {
	n := uint64(t.blocks()) * 8
	if uint64(first)+n/blockPayload >= uint64(r.blocks) {
		return nil, r.damaged("fences at block %d", first)
	}
	buf, err := r.readBlob(buf, first, uint32(n))
	if err != nil {
		return nil, err
	}
	return buf, r.setFences(t, buf)
}

// setFences gives a table its fences, which must not go down.
func (r *run) setFences(t *table, stored []byte) error {
	t.fences = make([]uint64, t.blocks())
	for i := range t.fences {
		t.fences[i] = binary.BigEndian.Uint64(stored[8*i:])
		if i > 0 && t.fences[i] < t.fences[i-1] {
			return r.damaged("fences out of order")
		}
	}
	return nil
}

// loadGroups reads the groups' fences and filters; size is what all filters take.
func (r *run) loadGroups(w words, n, size int, buf []byte) (err error) {
	if size > 0 {
		r.memory, err = unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return fmt.Errorf("map %d bytes of filters: %w", size, err)
		}
	}
	space, keys, last := r.memory, uint64(0), uint64(0)
	r.groups = make([]group, n)
	for i := range r.groups {
		g := &r.groups[i]
		g.keys = table{first: w.next(), count: w.next(), size: keyEntry}
		first, length := w.next(), w.next()
		if err := r.checkTable(&g.keys); err != nil {
			return err
		}
		if g.keys.count == 0 || g.keys.count > groupKeysMax || uint64(first)+uint64(length)/blockPayload >= uint64(r.blocks) {
			return r.damaged("group %d", i)
		}
		if buf, err = r.readBlob(buf, first, length); err != nil {
			return err
		}
		if space, err = r.loadGroup(g, buf, space); err != nil {
			return err
		}
		if i > 0 && g.keys.fences[0] <= last {
			return r.damaged("group %d out of order", i)
		}
		last = g.keys.fences[len(g.keys.fences)-1]
		keys += uint64(g.keys.count)
	}
	if keys != uint64(r.ids.count) {
		return r.damaged("%d keys, %d ids", keys, r.ids.count)
	}
	return nil
}

// loadGroup takes a group's fences and filter out of stored, and the filter's
// space out of space.
func (r *run) loadGroup(g *group, stored, space []byte) ([]byte, error) {
	fences := 8 * int(g.keys.blocks())
	if len(stored) < fences+filterHead {
		return nil, r.damaged("group is cut short")
	}
	if err := r.setFences(&g.keys, stored); err != nil {
		return nil, err
	}
	head := stored[fences:][:filterHead]
	n, ok := filterBytes(head)
	if !ok || n != len(stored)-fences-filterHead || n > len(space) {
		return nil, r.damaged("filter")
	}
	copy(space, stored[fences+filterHead:])
	g.filter = newFilter(head, space[:n:n])
	return space[n:], nil
}

// groupOf gives the group that may hold keys with that prefix, nil if there is
// none or its filter says no.
func (r *run) groupOf(prefix uint64) *group {
	i := sort.Search(len(r.groups), func(i int) bool { return r.groups[i].keys.fences[0] > prefix })
	if i == 0 {
		return nil
	}
	if g := &r.groups[i-1]; g.filter.mayContain(prefix) {
		return g
	}
	return nil
}

// lowerBound gives the number of the first entry that is not below key; an entry
// is compared by as many bytes as key has, at least eight.
func (r *run) lowerBound(c *cache, t *table, key []byte) (uint32, error) {
	prefix := prefixOf(key)
	b := uint32(sort.Search(len(t.fences), func(i int) bool { return t.fences[i] >= prefix }))
	if b > 0 {
		b--
	}
	for ; int(b) < len(t.fences) && t.fences[b] <= prefix; b++ {
		n, at := int(t.inBlock(b)), 0
		err := c.view(r, t.first+b, func(payload []byte) {
			at = sort.Search(n, func(i int) bool {
				return bytes.Compare(payload[i*int(t.size):][:len(key)], key) >= 0
			})
		})
		if err != nil || at < n {
			return b*t.perBlock() + uint32(at), err
		}
	}
	return min(b*t.perBlock(), t.count), nil
}

// scan shows entries from number from on, until there are no more or look says
// so. look must be short, keep nothing of entry, and not come back to the cache.
func (r *run) scan(c *cache, t *table, from uint32, look func(entry []byte) bool) error {
	for more := true; more && from < t.count; {
		b := from / t.perBlock()
		end := b*t.perBlock() + t.inBlock(b)
		err := c.view(r, t.first+b, func(payload []byte) {
			for ; more && from < end; from++ {
				more = look(payload[from%t.perBlock()*t.size:][:t.size])
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// entry shows one entry.
func (r *run) entry(c *cache, t *table, i uint32, look func(entry []byte)) error {
	if i >= t.count {
		return r.damaged("entry %d of %d", i, t.count)
	}
	return c.view(r, t.first+i/t.perBlock(), func(payload []byte) {
		look(payload[i%t.perBlock()*t.size:][:t.size])
	})
}

// places appends the key rows of a chunk to dst: as many as dst has room for,
// without the first skip ones.
func (r *run) places(c *cache, key []byte, skip int, dst []keyRow) ([]keyRow, error) {
	g := r.groupOf(prefixOf(key))
	if g == nil {
		return dst, nil
	}
	from, err := r.lowerBound(c, &g.keys, key)
	if err != nil {
		return dst, err
	}
	err = r.scan(c, &g.keys, from, func(entry []byte) bool {
		if !bytes.Equal(entry[:len(key)], key) {
			return false
		}
		if skip > 0 {
			skip--
			return true
		}
		if len(dst) == cap(dst) {
			return false
		}
		dst = dst[:len(dst)+1]
		dst[len(dst)-1].get(entry)
		return true
	})
	return dst, err
}

// location resolves a key row.
func (r *run) location(c *cache, k keyRow) (Location, error) {
	var f frameRow
	if err := r.entry(c, &r.frames, k.frame, func(e []byte) { f.get(e) }); err != nil {
		return Location{}, err
	}
	var p packRow
	if err := r.entry(c, &r.packs, f.pack, func(e []byte) { p.get(e) }); err != nil {
		return Location{}, err
	}
	return locate(&p, &f, k), nil
}

// hasName says whether an index object's name is recorded here.
func (r *run) hasName(c *cache, name []byte) (bool, error) {
	at, err := r.lowerBound(c, &r.names, name)
	if err != nil || at >= r.names.count {
		return false, err
	}
	found := false
	err = r.entry(c, &r.names, at, func(e []byte) { found = bytes.Equal(e, name) })
	return found, err
}
