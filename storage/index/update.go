package index

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"lifeboat/storage/pack"
)

// filesMax is the number of files of an index: enough for 4,000,000,000 chunks.
const filesMax = 1024

// DropsMax is the number of dropped packs that are remembered; with more, the
// files that hold them are written anew without them.
const DropsMax = 64 << 10

// Add records a pack of a writer. A pack that is recorded already is left as it
// is; one that was dropped is recorded again. The record is durable after the
// next Flush. Add may write out and merge files, and then takes its time;
// lookups go on meanwhile. storage.ErrCorrupt if the record is not what a pack
// can be; after any error nothing of it is recorded.
func (x *Index) Add(r PackRecord, writer Writer) error {
	if err := r.check(); err != nil {
		return err
	}
	x.change.Lock()
	defer x.change.Unlock()
	if err := x.add(&r, writer); err != nil {
		return fmt.Errorf("record pack %s: %w", r.Hash, err)
	}
	return nil
}

// AddObject records every pack of an index object and marks it as loaded.
func (x *Index) AddObject(name string, o *Object) error {
	for i := range o.Packs {
		if err := x.Add(o.Packs[i], o.Writer); err != nil {
			return fmt.Errorf("load index object %s: %w", name, err)
		}
	}
	return x.MarkLoaded(name)
}

func (x *Index) add(r *PackRecord, writer Writer) error {
	if err := x.makeRoom(); err != nil {
		return err
	}
	if _, ok := x.memory.find(r.Hash, writer); ok {
		return nil
	}
	if _, _, ok, err := x.liveRow(r.Hash, writer); err != nil || ok {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.memory.add(r, writer)
	return nil
}

// makeRoom writes the table in memory out if it is full. The caller holds change.
func (x *Index) makeRoom() error {
	if err := x.usable(); err != nil {
		return err
	}
	if !x.memory.full(x.opt.MemoryChunks) {
		return nil
	}
	return x.note(x.spill())
}

// MarkLoaded notes that all records of an index object were added before. The
// mark never becomes durable before they do.
func (x *Index) MarkLoaded(object string) error {
	x.change.Lock()
	defer x.change.Unlock()
	if err := x.makeRoom(); err != nil {
		return fmt.Errorf("mark index object %s: %w", object, err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.memory.names[nameKey(object)] = struct{}{}
	return nil
}

// Drop forgets packs: lookups skip their locations from now on, and when Drop
// returns nil that is durable. Packs that are not recorded are passed over. Add
// records a dropped pack again. After an error the packs are forgotten for as
// long as this Index is open.
func (x *Index) Drop(hashes ...pack.Hash) error {
	x.change.Lock()
	defer x.change.Unlock()
	if err := x.usable(); err != nil {
		return fmt.Errorf("drop packs: %w", err)
	}
	drops := maps.Clone(x.drops)
	before := len(drops)
	changed := false
	for _, hash := range hashes {
		stored, err := x.storedLive(hash)
		if err != nil {
			return fmt.Errorf("drop pack %s: %w", hash, x.note(err))
		}
		if stored {
			drops[hash] = x.next - 1 // every run there is
			changed = true
		}
	}
	x.mu.Lock()
	for _, hash := range hashes {
		x.memory.drop(hash)
	}
	x.drops = drops
	x.mu.Unlock()
	if !changed {
		return nil
	}
	if err := x.writeState(x.runs, drops); err != nil {
		return fmt.Errorf("drop packs: %w", err)
	}
	if len(drops) > DropsMax && len(drops) > before {
		return x.note(x.purge())
	}
	return nil
}

// storedLive says if any run has a record of the pack that counts, of any writer.
func (x *Index) storedLive(hash pack.Hash) (bool, error) {
	for _, r := range x.runs {
		if x.isDropped(hash, r) {
			continue
		}
		if _, ok, err := r.findPack(x.cache, hash[:]); err != nil || ok {
			return ok, err
		}
	}
	return false, nil
}

// Flush makes everything that was added and marked before durable.
func (x *Index) Flush() error {
	x.change.Lock()
	defer x.change.Unlock()
	if err := x.usable(); err != nil {
		return fmt.Errorf("flush index: %w", err)
	}
	if err := x.note(x.spill()); err != nil {
		return fmt.Errorf("flush index: %w", err)
	}
	return nil
}

// spill writes the table in memory out as a run, and merges runs if there are
// many. The caller holds change.
func (x *Index) spill() error {
	if x.memory.empty() {
		return nil
	}
	if len(x.runs) >= filesMax {
		return fmt.Errorf("index has %d files, the most there may be", filesMax)
	}
	chunks := len(x.memory.chunks)
	r, err := x.writeRun(func(w *runWriter) (layout, error) { return x.memory.writeTo(w), nil })
	if err != nil {
		return err
	}
	if err := x.commit(append(slices.Clone(x.runs), r), x.drops); err != nil {
		return errors.Join(err, r.close())
	}
	x.mu.Lock()
	x.memory.reset(x.opt.MemoryChunks)
	x.mu.Unlock()
	if x.opt.Events.Spilled != nil {
		x.opt.Events.Spilled(chunks)
	}
	return x.mergeSome()
}

// writeRun makes a new run with what write puts into it, and opens it.
func (x *Index) writeRun(write func(*runWriter) (layout, error)) (*run, error) {
	id := x.next
	x.next++ // also if this fails: what is left of it must not be taken for the next one
	path := x.path(id)
	w, err := createRun(path, id)
	if err != nil {
		return nil, err
	}
	l, err := write(w)
	if err != nil {
		w.abort()
		return nil, errors.Join(err, os.Remove(path))
	}
	rf, err := w.finish(l, !x.opt.Temporary)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	r, err := openRun(path, rf)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return r, nil
}

// commit makes runs and drops the durable state, and then what lookups see. The
// table in memory is emptied by the caller after that, so that for a moment a
// chunk has the same location twice, and never none. When it fails, the state
// on disk may be either one, so files of both must stay.
func (x *Index) commit(runs []*run, drops map[pack.Hash]uint64) error {
	if err := x.writeState(runs, drops); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.runs, x.drops = runs, drops
	return nil
}

func (x *Index) writeState(runs []*run, drops map[pack.Hash]uint64) error {
	if x.opt.Temporary {
		return nil
	}
	s := state{repo: x.opt.Repo, next: x.next, drops: drops}
	for _, r := range runs {
		s.runs = append(s.runs, r.runFile)
	}
	return writeState(x.dir, &s)
}
