package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"

	"lifeboat/storage"
)

// sizes are those at which STREAM behaves differently.
func sizes() []int {
	const block = 64 << 10
	return []int{0, 1, 15, 16, 17, block - 1, block, block + 1, 2 * block, 2*block + 1, 5<<20 + 12345}
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(n), 7))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func newIdentity(t testing.TB, classic bool) Identity {
	t.Helper()
	id, err := NewIdentity(classic)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newSealer(t testing.TB, to ...Recipient) *Sealer {
	t.Helper()
	s, err := NewSealer(to...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// kinds are the sealers that lifeboat uses, with an identity for each recipient.
func kinds(t testing.TB) map[string][]Identity {
	return map[string][]Identity{
		"classic":     {newIdentity(t, true)},
		"hybrid":      {newIdentity(t, false)},
		"two hybrids": {newIdentity(t, false), newIdentity(t, false)},
	}
}

func recipients(ids []Identity) (to []Recipient) {
	for _, id := range ids {
		to = append(to, id.Recipient())
	}
	return to
}

func TestSealedFilesOpenEverywhere(t *testing.T) {
	for name, ids := range kinds(t) {
		sealer := newSealer(t, recipients(ids)...)
		for _, n := range sizes() {
			t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
				plain := noise(n)
				prefix := []byte("already there")
				out, key, err := sealer.Seal(bytes.Clone(prefix), plain)
				if err != nil {
					t.Fatal(err)
				}
				file, ok := bytes.CutPrefix(out, prefix)
				if !ok {
					t.Fatal("what was in dst is gone")
				}
				if got, want := len(file), n+sealer.Overhead(n); got != want {
					t.Errorf("file of %d bytes, Overhead says %d", got, want)
				}
				for i, id := range ids {
					r, err := age.Decrypt(bytes.NewReader(file), id.age)
					if err != nil {
						t.Fatalf("age with identity %d: %v", i, err)
					}
					got, err := io.ReadAll(r)
					wantSame(t, fmt.Sprintf("age with identity %d", i), got, err, plain)
					got, err = NewOpener(id).Open(nil, file)
					wantSame(t, fmt.Sprintf("identity %d", i), got, err, plain)
				}
				got, err := OpenWithKey(bytes.Clone(prefix), file, key)
				wantSame(t, "file key", got, err, append(prefix, plain...))
			})
		}
	}
}

func TestFilesOfAgeOpen(t *testing.T) {
	for name, ids := range kinds(t) {
		opener := NewOpener(ids[len(ids)-1])
		var to []age.Recipient
		for _, id := range ids {
			to = append(to, id.Recipient().age)
		}
		for _, n := range sizes() {
			t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
				plain := noise(n)
				var file bytes.Buffer
				w, err := age.Encrypt(&file, to...)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write(plain); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				got, err := opener.Open([]byte("x"), file.Bytes())
				wantSame(t, "open", got, err, append([]byte("x"), plain...))
			})
		}
	}
}

func wantSame(t *testing.T, what string, got []byte, err error, want []byte) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: got other bytes (%d, want %d)", what, len(got), len(want))
	}
}

func TestSealerRefuses(t *testing.T) {
	classic, hybrid := newIdentity(t, true).Recipient(), newIdentity(t, false).Recipient()
	many := make([]Recipient, recipientsMax+1)
	for i := range many {
		many[i] = newIdentity(t, true).Recipient()
	}
	for name, to := range map[string][]Recipient{
		"nobody":             nil,
		"empty recipient":    {hybrid, {}},
		"hybrid and classic": {hybrid, classic},
		"classic and hybrid": {classic, hybrid},
		"too many":           many,
	} {
		if _, err := NewSealer(to...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if s := newSealer(t, hybrid, hybrid); len(s.Recipients()) != 1 {
		t.Errorf("a recipient given twice counts %d times", len(s.Recipients()))
	}
	if _, err := Wrap(make([]byte, wrapMax+1), hybrid); err == nil {
		t.Error("Wrap takes more than its limit")
	}
}

// TestFreshKeys seals the same bytes twice: nothing but the shape may repeat.
func TestFreshKeys(t *testing.T) {
	s := newSealer(t, newIdentity(t, false).Recipient())
	a, keyA, errA := s.Seal(nil, make([]byte, 100))
	b, keyB, errB := s.Seal(nil, make([]byte, 100))
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	if keyA == keyB || bytes.Equal(a, b) || bytes.Equal(a[len(a)-116:], b[len(b)-116:]) {
		t.Error("two files share their key or nonce")
	}
}

func TestOpenerChooses(t *testing.T) {
	ids := []Identity{newIdentity(t, true), newIdentity(t, false), newIdentity(t, true), newIdentity(t, false)}
	opener := NewOpener(append(ids, Identity{})...)
	for _, i := range []int{3, 0, 2, 2, 1, 3, 0} {
		file, err := Wrap([]byte{byte(i)}, ids[i].Recipient())
		if err != nil {
			t.Fatal(err)
		}
		got, err := opener.Open(nil, file)
		wantSame(t, fmt.Sprintf("identity %d", i), got, err, []byte{byte(i)})
	}
	file, err := Wrap([]byte("x"), newIdentity(t, false).Recipient())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []*Opener{opener, NewOpener()} {
		if _, err := o.Open(nil, file); !errors.Is(err, ErrNoKey) || errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("foreign file: %v, want ErrNoKey", err)
		}
	}
}

// TestOpenerRemembers counts public-key operations: once a pair of identity and
// stanza has fitted, files sealed alike cost one each.
func TestOpenerRemembers(t *testing.T) {
	mine, other := newIdentity(t, false), newIdentity(t, false)
	file, _, err := newSealer(t, other.Recipient(), mine.Recipient()).Seal(nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	tries := 0
	opener := NewOpener()
	for _, id := range []Identity{newIdentity(t, false), newIdentity(t, false), mine} {
		opener.ids = append(opener.ids, counting{id.age, &tries})
	}
	for i, want := range []int{6, 1, 1} {
		tries = 0
		if _, err := opener.Open(nil, file); err != nil {
			t.Fatal(err)
		}
		if tries != want {
			t.Errorf("open %d: %d tries, want %d", i, tries, want)
		}
	}
}

type counting struct {
	age.Identity
	n *int
}

func (c counting) Unwrap(s []*age.Stanza) ([]byte, error) {
	*c.n++
	return c.Identity.Unwrap(s)
}

func TestConcurrentUse(t *testing.T) {
	ids := []Identity{newIdentity(t, false), newIdentity(t, false)}
	sealers := []*Sealer{newSealer(t, ids[0].Recipient()), newSealer(t, recipients(ids)...), newSealer(t, ids[1].Recipient())}
	opener := NewOpener(ids...)
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := range 20 {
				plain := noise(1000*g + i)
				file, key, err := sealers[(g+i)%3].Seal(nil, plain)
				if err != nil {
					t.Error(err)
					return
				}
				a, errA := opener.Open(nil, file)
				b, errB := OpenWithKey(nil, file, key)
				if errA != nil || errB != nil || !bytes.Equal(a, plain) || !bytes.Equal(b, plain) {
					t.Errorf("round trip: %v, %v", errA, errB)
				}
			}
		})
	}
	group.Wait()
}

// TestEveryFlippedByteIsNoticed damages each byte of a small file in turn, and
// cuts it at each length.
func TestEveryFlippedByteIsNoticed(t *testing.T) {
	id := newIdentity(t, true)
	opener := NewOpener(id)
	file, key, err := newSealer(t, id.Recipient()).Seal(nil, []byte("some contents"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, bad []byte) {
		t.Helper()
		if got, err := opener.Open(nil, bad); got != nil || !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, ErrNoKey) {
			t.Errorf("%s: Open gives %q, %v", what, got, err)
		}
		if got, err := OpenWithKey(nil, bad, key); got != nil || !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: OpenWithKey gives %q, %v", what, got, err)
		}
	}
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 0x01
		check(fmt.Sprintf("byte %d flipped", i), bad)
		check(fmt.Sprintf("cut at %d", i), file[:i:i])
	}
	check("a byte more", append(bytes.Clone(file), 0))
	var wrong FileKey
	if _, err := OpenWithKey(nil, file, wrong); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("wrong file key: %v", err)
	}
}

// TestBlocksStayInPlace cuts, repeats and swaps whole blocks of a longer file.
func TestBlocksStayInPlace(t *testing.T) {
	id := newIdentity(t, true)
	s := newSealer(t, id.Recipient())
	opener := NewOpener(id)
	file, _, err := s.Seal(nil, noise(3*blockPlain))
	if err != nil {
		t.Fatal(err)
	}
	head := len(file) - 3*blockSealed
	block := func(i int) []byte { return file[head+i*blockSealed:][:blockSealed] }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, bad := range map[string][]byte{
		"last block lost":      join(file[:head], block(0), block(1)),
		"middle block lost":    join(file[:head], block(0), block(2)),
		"swapped":              join(file[:head], block(1), block(0), block(2)),
		"repeated":             join(file, block(2)),
		"empty block appended": join(file, make([]byte, blockTag)),
		"half a tag appended":  join(file, make([]byte, blockTag/2)),
		"no blocks":            file[:head],
		"half a nonce":         file[:head-8],
		"all blocks doubled":   join(file, file[head:]),
	} {
		if got, err := opener.Open(nil, bad); got != nil || !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestHeaderLimits(t *testing.T) {
	line := strings.Repeat("A", 64) + "\n"
	footer := "--- " + strings.Repeat("A", 43) + "\n"
	for name, tt := range map[string]struct{ file, want string }{
		"empty":         {"", "not an age file"},
		"other version": {"age-encryption.org/v2\n-> X25519 a\n\n" + footer, "not an age file"},
		"no end":        {intro + "-> X25519 a\nabc", "cut short"},
		"no recipients": {intro + footer, "malformed"},
		"short mac":     {intro + "-> X25519 a\n\n--- AAAA\n", "malformed"},
		"too long":      {intro + "-> X25519 a\n" + strings.Repeat(line, headerBytesMax/len(line)+1) + footer, "longer than"},
		"one long line": {intro + strings.Repeat("A", headerBytesMax), "longer than"},
		"many stanzas":  {intro + strings.Repeat("-> x\n\n", stanzasMax+1) + footer, "more than"},
	} {
		_, err := NewOpener(newIdentity(t, true)).Open(nil, []byte(tt.file))
		if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	// What stays within the limits is age's to judge.
	file := intro + strings.Repeat("-> unknown\n\n", stanzasMax) + footer
	if _, err := NewOpener(newIdentity(t, true)).Open(nil, []byte(file)); !errors.Is(err, ErrNoKey) {
		t.Errorf("stanzas of unknown types: %v, want ErrNoKey", err)
	}
}

// TestHeaderWriter writes a header in pieces of every size: the writer depends
// neither on how age cuts its writes nor on what follows.
func TestHeaderWriter(t *testing.T) {
	header := intro + "-> X25519 abc\nAAAA\n--- mac\n"
	for step := 1; step <= len(header)+20; step++ {
		w := headerWriter{out: []byte("before"), line: len("before")}
		rest := []byte(header + "nonce and payload")
		var err error
		for len(rest) > 0 && err == nil {
			n := min(step, len(rest))
			_, err = w.Write(rest[:n])
			rest = rest[n:]
		}
		if !errors.Is(err, errHeaderDone) || !w.done || string(w.out) != "before"+header {
			t.Fatalf("steps of %d: done %v, %v, got %q", step, w.done, err, w.out)
		}
	}
}

func TestSealMakesLittleGarbage(t *testing.T) {
	s := newSealer(t, newIdentity(t, false).Recipient())
	plain := noise(1 << 20)
	sealed := make([]byte, 0, len(plain)+s.Overhead(len(plain)))
	opened := make([]byte, 0, len(plain))
	file, key, err := s.Seal(sealed, plain)
	if err != nil {
		t.Fatal(err)
	}
	if &file[0] != &sealed[:1][0] {
		t.Error("Seal moved a buffer that was big enough")
	}
	file = bytes.Clone(file) // the next ones go to the same place
	const runs = 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		if _, _, err := s.Seal(sealed, plain); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / runs; n > 40<<10 {
		t.Errorf("Seal of 1 MiB allocates %d bytes", n)
	}
	allocs := testing.AllocsPerRun(10, func() {
		if out, err := OpenWithKey(opened, file, key); err != nil || &out[0] != &opened[:1][0] {
			t.Fatal("OpenWithKey moved a buffer that was big enough, or failed", err)
		}
	})
	if allocs > 60 {
		t.Errorf("OpenWithKey makes %v allocations", allocs)
	}
}
