package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sort"

	"lifeboat/storage/pack"
)

const (
	// mergeAbove is how many runs that may still grow there are at most.
	mergeAbove = 8
	// Runs grow to these many chunks and packs. The first bounds a merge's time
	// and the memory for two sets of filters (9 MB each), the second the tables
	// that a merge keeps of its packs (17 bytes each).
	runChunksMax = 8 << 20
	runPacksMax  = 512 << 10
	// mergeInputsMax bounds one merge, should merges have failed for a while.
	mergeInputsMax = 64
	scanBlocks     = 16 // blocks that a merge reads at once, of each file
)

// mergeSome merges runs until there are few enough. The caller holds change.
func (x *Index) mergeSome() error {
	for {
		inputs := pickMerge(x.runs)
		if inputs == nil {
			return nil
		}
		if err := x.merge(inputs); err != nil {
			return err
		}
	}
}

// pickMerge chooses what to merge: the smallest runs, and larger ones as long as
// the next is no larger than all before it together. So every chunk is written
// about as often as the number of runs doubles. nil: nothing to do.
func pickMerge(runs []*run) []*run {
	var growing []*run
	for _, r := range runs {
		if r.chunks <= runChunksMax/2 && r.packs.count <= runPacksMax/2 {
			growing = append(growing, r)
		}
	}
	if len(growing) <= mergeAbove {
		return nil
	}
	slices.SortStableFunc(growing, func(a, b *run) int { return a.weight() - b.weight() })
	n, sum, chunks, packs := 0, 0, 0, 0
	for _, r := range growing {
		chunks, packs = chunks+r.chunks, packs+int(r.packs.count)
		if n >= 2 && r.weight() > sum || n == mergeInputsMax || chunks > runChunksMax || packs > runPacksMax {
			break
		}
		n, sum = n+1, sum+r.weight()
	}
	return growing[:n]
}

// weight is what copying a run costs, roughly, in chunks.
func (r *run) weight() int { return 1 + r.chunks + int(r.packs.count+r.names.count) }

// purge rewrites every run with dropped packs in it. The caller holds change.
func (x *Index) purge() error {
	for _, r := range slices.Clone(x.runs) {
		dirty := false
		for hash, until := range x.drops {
			if r.id > until {
				continue
			}
			_, ok, err := r.findPack(x.cache, hash[:])
			if err != nil {
				return err
			}
			if dirty = ok; dirty {
				break
			}
		}
		if !dirty {
			continue
		}
		if err := x.merge([]*run{r}); err != nil {
			return err
		}
	}
	return nil
}

// merge replaces runs by one with the same contents, but for dropped packs.
func (x *Index) merge(inputs []*run) error {
	m := merger{index: x, drops: make(map[pack.Hash]bool)}
	total := 0
	for i, r := range inputs {
		m.inputs = append(m.inputs, &mergeInput{run: r, number: i, packs: make([]mergedPack, 0, r.packs.count)})
		total += int(r.packs.count)
	}
	m.order = make([]uint8, 0, total)
	merged, err := x.writeRun(m.write)
	if err != nil {
		return fmt.Errorf("merge %d files: %w", len(inputs), err)
	}
	rest := slices.DeleteFunc(slices.Clone(x.runs), func(r *run) bool { return slices.Contains(inputs, r) })
	drops, err := x.dropsAfter(rest, m.drops)
	if err == nil {
		err = x.commit(append(rest, merged), drops)
	}
	if err != nil {
		return fmt.Errorf("merge %d files: %w", len(inputs), errors.Join(err, merged.close()))
	}
	for _, r := range inputs {
		err = errors.Join(err, r.close(), os.Remove(x.path(r.id)))
	}
	if err != nil {
		return fmt.Errorf("remove merged files: %w", err)
	}
	if x.opt.Events.Merged != nil {
		x.opt.Events.Merged(len(inputs), merged.chunks)
	}
	return nil
}

// dropsAfter forgets the drops of packs that were left out of a merge and that
// no other run has.
func (x *Index) dropsAfter(rest []*run, purged map[pack.Hash]bool) (map[pack.Hash]uint64, error) {
	drops := maps.Clone(x.drops)
	for hash := range purged {
		needed := false
		for _, r := range rest {
			if !x.isDropped(hash, r) {
				continue
			}
			_, ok, err := r.findPack(x.cache, hash[:])
			if err != nil {
				return nil, err
			}
			needed = needed || ok
		}
		if !needed {
			delete(drops, hash)
		}
	}
	return drops, nil
}

// merger writes one run of several. It goes over the packs once to number them
// anew, and then over each table from front to end.
type merger struct {
	index  *Index
	inputs []*mergeInput
	order  []uint8 // input of each pack, in the order of the merge, left out ones included
	drops  map[pack.Hash]bool
}

// mergeInput is a run that is being merged.
type mergeInput struct {
	*run
	number int
	packs  []mergedPack // of the run, in its order
	at     int          // pack that comes next
	scan   scanner
}

// mergedPack says where a pack's frames were and where they are now.
type mergedPack struct {
	oldFrame, newFrame uint32 // first one; newFrame gone: left out
	frames, chunks     uint32
}

const gone = 1<<32 - 1

// No merge has more inputs than order can number.
const _ = uint8(mergeInputsMax - 1)

func (m *merger) write(w *runWriter) (layout, error) {
	var l layout
	for _, step := range []func(*runWriter, *layout) error{m.writePacks, m.writeFrames, m.writeIDs, m.writeKeys, m.writeNames} {
		if err := step(w, &l); err != nil {
			return l, err
		}
	}
	return l, nil
}

// writePacks merges the packs by hash and writer.
func (m *merger) writePacks(w *runWriter, l *layout) error {
	queue, err := m.start(func(in *mergeInput) *table { return &in.run.packs }, packKey)
	if err != nil {
		return err
	}
	w.begin(packEntry, true)
	next := uint32(0)
	var row packRow
	var last [packKey]byte
	for ; len(queue) > 0; err = queue.advance() {
		if err != nil {
			return err
		}
		in := queue[0]
		row.get(in.scan.entry)
		p := mergedPack{oldFrame: row.firstFrame, newFrame: gone, frames: row.frames, chunks: row.chunks}
		switch key := [packKey]byte(in.scan.entry); {
		case m.index.isDropped(row.hash, in.run):
			m.drops[row.hash] = true
		case key == last && next > 0: // recorded twice: Add does not let that happen
		default:
			p.newFrame, row.firstFrame, last = next, next, key
			next += row.frames
			row.put(w.put(prefixOf(row.hash[:])))
		}
		in.packs = append(in.packs, p)
		m.order = append(m.order, uint8(in.number))
	}
	if err != nil {
		return err
	}
	l.packs = w.end()
	l.packFences = w.fences(l.packs.fences)
	return nil
}

// eachPack goes over the packs of all inputs in the order of the merge; it
// starts every input's scanner at the front of the table that which names.
func (m *merger) eachPack(which func(*mergeInput) *table, do func(in *mergeInput, p *mergedPack) error) error {
	for _, in := range m.inputs {
		in.at = 0
		in.scan.start(in.run, which(in))
	}
	for _, i := range m.order {
		in := m.inputs[i]
		p := &in.packs[in.at]
		in.at++
		if err := do(in, p); err != nil {
			return err
		}
	}
	return nil
}

func (m *merger) writeFrames(w *runWriter, l *layout) error {
	w.begin(frameSize, false)
	number, chunk := uint32(0), uint32(0)
	err := m.eachPack(func(in *mergeInput) *table { return &in.run.frames }, func(in *mergeInput, p *mergedPack) error {
		var f frameRow
		for range p.frames {
			if err := in.scan.mustNext(); err != nil {
				return err
			}
			if p.newFrame == gone {
				continue
			}
			f.get(in.scan.entry)
			f.pack, f.firstChunk = number, chunk
			chunk += f.chunks
			f.put(w.put(0))
		}
		if p.newFrame != gone {
			number++
		}
		return nil
	})
	l.frames = w.end()
	return err
}

func (m *merger) writeIDs(w *runWriter, l *layout) error {
	w.begin(idEntry, false)
	err := m.eachPack(func(in *mergeInput) *table { return &in.run.ids }, func(in *mergeInput, p *mergedPack) error {
		for range p.chunks {
			if err := in.scan.mustNext(); err != nil {
				return err
			}
			if p.newFrame != gone {
				copy(w.put(0), in.scan.entry)
			}
		}
		return nil
	})
	l.ids = w.end()
	return err
}

// writeKeys merges the sorted keys of all groups.
func (m *merger) writeKeys(w *runWriter, _ *layout) error {
	queue, err := m.start(func(in *mergeInput) *table { return nil }, keySize)
	if err != nil {
		return err
	}
	w.begin(keyEntry, true)
	var k keyRow
	for ; len(queue) > 0; err = queue.advance() {
		if err != nil {
			return err
		}
		in := queue[0]
		k.get(in.scan.entry)
		frame, ok := in.frame(k.frame)
		if !ok {
			continue
		}
		entry := w.key(in.scan.prefix)
		copy(entry, in.scan.entry)
		binary.LittleEndian.PutUint32(entry[keySize:], frame)
	}
	w.endGroup()
	return err
}

// frame gives the new number of a frame, and false if its pack is left out.
func (in *mergeInput) frame(old uint32) (uint32, bool) {
	i := sort.Search(len(in.packs), func(i int) bool { return in.packs[i].oldFrame > old })
	if i == 0 || in.packs[i-1].newFrame == gone {
		return 0, false
	}
	return in.packs[i-1].newFrame + old - in.packs[i-1].oldFrame, true
}

func (m *merger) writeNames(w *runWriter, l *layout) error {
	queue, err := m.start(func(in *mergeInput) *table { return &in.run.names }, nameEntry)
	if err != nil {
		return err
	}
	w.begin(nameEntry, true)
	var last [nameEntry]byte
	for first := true; len(queue) > 0; err = queue.advance() {
		if err != nil {
			return err
		}
		name := [nameEntry]byte(queue[0].scan.entry)
		if first || name != last {
			copy(w.put(queue[0].scan.prefix), name[:])
		}
		first, last = false, name
	}
	l.names = w.end()
	l.nameFences = w.fences(l.names.fences)
	return err
}

// start puts the inputs in a queue by their first entries. which names a sorted
// table; nil means the keys of all groups.
func (m *merger) start(which func(*mergeInput) *table, keyLength int) (mergeQueue, error) {
	var queue mergeQueue
	for _, in := range m.inputs {
		if t := which(in); t != nil {
			in.scan.start(in.run, t)
		} else {
			in.scan.startKeys(in.run)
		}
		in.scan.keyLength = keyLength
		ok, err := in.scan.next()
		if err != nil {
			return nil, err
		}
		if ok {
			queue = append(queue, in)
		}
	}
	for i := len(queue)/2 - 1; i >= 0; i-- {
		queue.down(i)
	}
	return queue, nil
}

// mergeQueue is a heap of inputs by the key of their current entry, then by number.
type mergeQueue []*mergeInput

func (q mergeQueue) less(i, j int) bool {
	a, b := q[i], q[j]
	if a.scan.prefix != b.scan.prefix {
		return a.scan.prefix < b.scan.prefix
	}
	n := a.scan.keyLength
	if c := bytes.Compare(a.scan.entry[8:n], b.scan.entry[8:n]); c != 0 {
		return c < 0
	}
	return a.number < b.number
}

func (q mergeQueue) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(q) {
			return
		}
		if child+1 < len(q) && q.less(child+1, child) {
			child++
		}
		if !q.less(child, i) {
			return
		}
		q[i], q[child] = q[child], q[i]
		i = child
	}
}

// advance moves the first input on to its next entry.
func (q *mergeQueue) advance() error {
	ok, err := (*q)[0].scan.next()
	if err != nil {
		return err
	}
	if !ok {
		last := len(*q) - 1
		(*q)[0] = (*q)[last]
		*q = (*q)[:last]
	}
	q.down(0)
	return nil
}
