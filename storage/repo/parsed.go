package repo

import (
	"sync"

	"lifeboat/storage/journal"
)

// parsedMax is how many bytes of statements are kept parsed during one loading.
const parsedMax = 32 << 20

// parsed are the statements of one loading by the hash of their bytes: what one
// region holds the others hold too, and one look at its signature is enough. A
// statement beyond the limit is parsed by each region for itself.
type parsed struct {
	mu    sync.Mutex
	bytes int
	all   map[[32]byte]*parsedOne
}

type parsedOne struct {
	once sync.Once
	s    *journal.Signed
	err  error
}

func newParsed() *parsed { return &parsed{all: map[[32]byte]*parsedOne{}} }

// get gives a statement of these bytes, which the caller has read and whose hash he
// knows. It is the caller's own, without the bytes; what it points to is shared.
func (p *parsed) get(hash [32]byte, doc []byte, parse func([]byte) (*journal.Signed, error)) (*journal.Signed, error) {
	one := p.one(hash, len(doc))
	one.once.Do(func() {
		if one.s, one.err = parse(doc); one.err == nil {
			one.s.Bytes = nil
		}
	})
	if one.err != nil {
		return nil, one.err
	}
	s := *one.s
	return &s, nil
}

func (p *parsed) one(hash [32]byte, size int) *parsedOne {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.all[hash]
	if one == nil {
		one = &parsedOne{}
		if p.bytes+size <= parsedMax {
			p.all[hash], p.bytes = one, p.bytes+size
		}
	}
	return one
}
