package replicate

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sort"
	"time"

	"lifeboat/storage/durable"
	"lifeboat/storage/pack"
)

// Limits of a coverage file.
const (
	coverageVersion = 1
	coverageMax     = 1 << 20 // bytes
	coverageRegions = 1000    // incarnations kept; the longest unread go first
)

// Coverage remembers, for each region, how far rounds of reading data packs have
// come: packs are read in the order of their hashes, a part at a time, and after
// the last one the first is next. So runs that read 3 % each read everything,
// whatever comes and goes between them, and the memory of it stays small. A nil
// Coverage remembers nothing.
type Coverage struct {
	Version int                      `json:"version"`
	Regions map[string]*regionRounds `json:"regions"` // by incarnation
}

// regionRounds is where one region's rounds are.
type regionRounds struct {
	Cursor  string    `json:"cursor"`                // hash of the last pack that was read in this round, hexadecimal
	Started time.Time `json:"started_at"`            // of this round
	Before  time.Time `json:"before_at,omitzero"`    // when the round before this one began; zero: this is the first
	Touched time.Time `json:"last_read_at,omitzero"` // when it last moved on
}

// CoverageReport says how much of the data packs was read.
type CoverageReport struct {
	// BytesRatio counts what this and earlier runs have read since it was stored, 0..1.
	BytesRatio float64 `json:"bytes_ratio"`
	RunRatio   float64 `json:"run_bytes_ratio"` // this run alone
	// OldestUnread is when the oldest pack was stored that no run has read; zero: there is none.
	OldestUnread time.Time `json:"oldest_unread_at,omitzero"`
}

// LoadCoverage reads a coverage file. One that is missing, damaged or of another
// version is an empty one: then the rounds begin again.
func LoadCoverage(path string) (*Coverage, error) {
	empty := &Coverage{Version: coverageVersion, Regions: map[string]*regionRounds{}}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read coverage: %w", err)
	}
	if info.Size() > coverageMax {
		return empty, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read coverage: %w", err)
	}
	return parseCoverage(data), nil
}

func parseCoverage(data []byte) *Coverage {
	c := &Coverage{}
	if err := json.Unmarshal(data, c); err != nil || c.Version != coverageVersion || c.Regions == nil || len(c.Regions) > coverageRegions {
		return &Coverage{Version: coverageVersion, Regions: map[string]*regionRounds{}}
	}
	for nonce, r := range c.Regions {
		if r == nil || len(r.cursor()) != len(pack.Hash{}) && r.Cursor != "" {
			delete(c.Regions, nonce)
		}
	}
	return c
}

// Save writes the file whole or not at all. The folder is made if need be.
func (c *Coverage) Save(path, dir string) error {
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode coverage: %w", err)
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save coverage: %w", err)
	}
	if err := durable.WriteFile(path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("save coverage: %w", err)
	}
	return nil
}

func (r *regionRounds) cursor() []byte {
	b, err := hex.DecodeString(r.Cursor)
	if err != nil {
		return nil
	}
	return b
}

// resume gives the place in all, which is sorted by hash, where the round goes on.
func (c *Coverage) resume(nonce string, all []uint32, hash func(uint32) pack.Hash) int {
	if c == nil || c.Regions[nonce] == nil || c.Regions[nonce].Cursor == "" {
		return 0
	}
	cursor := c.Regions[nonce].cursor()
	i := sort.Search(len(all), func(i int) bool { h := hash(all[i]); return bytes.Compare(h[:], cursor) > 0 })
	if i == len(all) {
		return 0
	}
	return i
}

// advance notes that the first done packs of a plan were read.
func (c *Coverage) advance(nonce string, now time.Time, p *readPlan, done int, hash func(uint32) pack.Hash) {
	if c == nil || nonce == "" || done == 0 {
		return
	}
	r := c.Regions[nonce]
	if r == nil {
		r = &regionRounds{Started: now.UTC()}
		c.Regions[nonce] = r
		c.bound()
	}
	r.Touched = now.UTC()
	if done == len(p.all) { // all of them, in this very run
		r.Cursor, r.Before, r.Started = "", now.UTC(), now.UTC()
		return
	}
	if r.Cursor != "" && p.from == 0 || p.from+done >= len(p.all) { // the round was, or is now, complete
		r.Before, r.Started, r.Cursor = r.Started, now.UTC(), ""
	}
	if p.from+done != len(p.all) {
		last := hash(p.data[done-1])
		r.Cursor = last.String()
	}
}

// bound forgets the regions that were longest not read.
func (c *Coverage) bound() {
	if len(c.Regions) <= coverageRegions {
		return
	}
	var names []string
	for nonce := range c.Regions {
		names = append(names, nonce)
	}
	slices.SortFunc(names, func(a, b string) int { return c.Regions[a].Touched.Compare(c.Regions[b].Touched) })
	for _, nonce := range names[:len(names)-coverageRegions] {
		delete(c.Regions, nonce)
	}
}

// read reports whether a pack was certainly read since it was stored, by the
// region's clock, in seconds since 1970.
func (c *Coverage) read(nonce string, hash pack.Hash, stored int64) bool {
	if c == nil || c.Regions[nonce] == nil {
		return false
	}
	r := c.Regions[nonce]
	if r.Cursor != "" && bytes.Compare(hash[:], r.cursor()) <= 0 && stored <= r.Started.Unix() {
		return true
	}
	return !r.Before.IsZero() && stored <= r.Before.Unix()
}
