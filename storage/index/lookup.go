package index

import (
	"bytes"
	"fmt"
	"slices"

	"lifeboat/storage/pack"
)

const (
	placesBatch = 16   // places of a chunk that are read from a run at once
	placesMax   = 4096 // places of one chunk that are looked at in one run
	// LocationsMax is the number of locations that Lookup gives at most.
	LocationsMax = 256
)

// Lookup gives the recorded locations of a chunk, the newest files' first; none
// and no error for an unknown one. ErrDamaged if a file is damaged.
func (x *Index) Lookup(id pack.ChunkID) ([]Location, error) {
	var found []Location
	err := x.each(id, func(l Location) bool {
		found = append(found, l)
		return len(found) < LocationsMax
	})
	if err != nil {
		return nil, fmt.Errorf("look up chunk %s: %w", id, err)
	}
	return found, nil
}

// Has gives one location of a chunk, if there is any. ErrDamaged if a file is
// damaged.
func (x *Index) Has(id pack.ChunkID) (Location, bool, error) { return x.Find(id, nil) }

// Find gives the first location of a chunk that accept takes; nil takes any. It
// is how a writer asks for its own packs alone, and for none that is blocked.
// accept is called while the index is locked and must not call it back.
// ErrDamaged if a file is damaged.
func (x *Index) Find(id pack.ChunkID, accept func(Location) bool) (l Location, ok bool, err error) {
	err = x.each(id, func(candidate Location) bool {
		if accept == nil || accept(candidate) {
			l, ok = candidate, true
		}
		return !ok
	})
	if err != nil {
		return Location{}, false, fmt.Errorf("look up chunk %s: %w", id, err)
	}
	return l, ok, nil
}

// each shows every location of a chunk until take says no more.
func (x *Index) each(id pack.ChunkID, take func(Location) bool) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return ErrClosed
	}
	if !x.memory.locations(id, take) {
		return nil
	}
	for _, r := range slices.Backward(x.runs) {
		more, err := x.eachIn(r, id[:keySize], take)
		if err != nil || !more {
			return x.note(err)
		}
	}
	return nil
}

// eachIn shows the locations in one run and says if take wants more.
func (x *Index) eachIn(r *run, key []byte, take func(Location) bool) (bool, error) {
	var space [placesBatch]keyRow
	for skip := 0; skip < placesMax; skip += placesBatch {
		places, err := r.places(x.cache, key, skip, space[:0])
		if err != nil {
			return false, err
		}
		for _, k := range places {
			l, err := r.location(x.cache, k)
			if err != nil {
				return false, err
			}
			if !x.isDropped(l.Pack, r) && !take(l) {
				return false, nil
			}
		}
		if len(places) < placesBatch {
			break
		}
	}
	return true, nil
}

// isDropped says if a pack's record in run r does not count any more.
func (x *Index) isDropped(hash pack.Hash, r *run) bool {
	if len(x.drops) == 0 {
		return false
	}
	until, ok := x.drops[hash]
	return ok && r.id <= until
}

// Loaded says whether an index object's records were marked as merged; after a
// crash, whether they are durably so. ErrDamaged if a file is damaged.
func (x *Index) Loaded(object string) (bool, error) {
	key := nameKey(object)
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return false, ErrClosed
	}
	if _, ok := x.memory.names[key]; ok {
		return true, nil
	}
	for _, r := range x.runs {
		ok, err := r.hasName(x.cache, key[:])
		if err != nil {
			return false, fmt.Errorf("look up index object %s: %w", object, x.note(err))
		}
		if ok {
			return true, nil
		}
	}
	return false, nil
}

// findPack gives a run's row of a pack; with key a hash alone, the first one
// with that hash.
func (r *run) findPack(c *cache, key []byte) (row packRow, ok bool, err error) {
	at, err := r.lowerBound(c, &r.packs, key)
	if err != nil || at >= r.packs.count {
		return row, false, err
	}
	err = r.entry(c, &r.packs, at, func(e []byte) {
		if ok = bytes.HasPrefix(e, key); ok {
			row.get(e)
		}
	})
	return row, ok, err
}

// liveRow finds a pack that counts in the runs. The caller holds mu or change.
func (x *Index) liveRow(hash pack.Hash, writer Writer) (*run, packRow, bool, error) {
	var key [packKey]byte
	copy(key[:], hash[:])
	copy(key[32:], writer[:])
	for _, r := range x.runs {
		if x.isDropped(hash, r) {
			continue
		}
		row, ok, err := r.findPack(x.cache, key[:])
		if err != nil || ok {
			return r, row, ok, x.note(err)
		}
	}
	return nil, packRow{}, false, nil
}

// HasPack describes a recorded pack, if it is recorded and not dropped.
// ErrDamaged if a file is damaged.
func (x *Index) HasPack(hash pack.Hash, writer Writer) (PackInfo, bool, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return PackInfo{}, false, ErrClosed
	}
	if p, ok := x.memory.find(hash, writer); ok {
		return p.info(), true, nil
	}
	_, row, ok, err := x.liveRow(hash, writer)
	if err != nil {
		return PackInfo{}, false, fmt.Errorf("look up pack %s: %w", hash, err)
	}
	return row.info(), ok, nil
}
