package restore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
	"lifeboat/storage/pack"
)

// sandbox is a target with things around it that must not change.
type sandbox struct {
	target, outside string
	before          string
}

func newSandbox(t testing.TB) *sandbox {
	t.Helper()
	top := t.TempDir()
	s := &sandbox{target: filepath.Join(top, "in", "target"), outside: filepath.Join(top, "outside")}
	for _, d := range []string{filepath.Dir(s.target), s.outside} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.before = s.around(t)
	return s
}

// around describes everything outside the target.
func (s *sandbox) around(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	top := filepath.Dir(s.outside)
	err := filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == s.target {
			return filepath.SkipDir
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		size, mtime := st.Size, st.Mtim.Nano()
		if path == filepath.Dir(s.target) {
			size, mtime = 0, 0 // the target appears in it
		}
		links := st.Nlink
		if d.IsDir() {
			links = 0
		}
		fmt.Fprintf(&b, "%s %o %d %d %d %d %d\n", path, st.Mode, st.Uid, st.Gid, size, mtime, links)
		if d.Type().IsRegular() {
			data, _ := os.ReadFile(path)
			fmt.Fprintf(&b, "%q\n", data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func (s *sandbox) check(t testing.TB) {
	t.Helper()
	if after := s.around(t); after != s.before {
		t.Errorf("something outside the target changed:\n%s\nwas:\n%s", after, s.before)
	}
}

func TestHostileEntries(t *testing.T) {
	s := newSandbox(t)
	up := strings.Repeat("../", 12) + s.outside[1:]
	file := func(path string) catalog.Entry { return catalog.Entry{Path: []byte(path), Mode: 0o644} }
	link := func(path, target string) catalog.Entry {
		return catalog.Entry{Path: []byte(path), Type: catalog.Symlink, Target: []byte(target)}
	}
	dir := func(path string) catalog.Entry {
		return catalog.Entry{Path: []byte(path), Type: catalog.Dir, Mode: 0o755}
	}
	sized := func(path string, change func(e *catalog.Entry)) catalog.Entry {
		e := file(path)
		change(&e)
		return e
	}
	id := []pack.ChunkID{{1}}
	for name, entries := range map[string][]catalog.Entry{
		"up":                 {file("../outside/x")},
		"far up":             {file(up + "/x")},
		"up in the middle":   {file("a/../../outside/x")},
		"absolute":           {file(s.outside + "/x")},
		"empty element":      {file("a//b")},
		"dot":                {file("./x")},
		"trailing slash":     {file("x/")},
		"NUL":                {file("x\x00y")},
		"empty path":         {file("")},
		"long element":       {file(strings.Repeat("x", 5000))},
		"long path":          {file(strings.Repeat("x/", 40_000) + "x")},
		"deep":               {file(strings.Repeat("x/", catalog.DepthMax) + "x")},
		"under a symlink":    {link("a", s.outside), file("a/x")},
		"under a file":       {file("a"), file("a/x")},
		"dir under a link":   {link("a", s.outside), dir("a/b"), file("a/b/c")},
		"twice":              {file("a"), file("a")},
		"file, then dir":     {file("a"), dir("a"), file("a/x")},
		"link, then dir":     {link("a", s.outside), dir("a"), file("a/x")},
		"dir, then link":     {dir("a"), link("a", s.outside), file("a/x")},
		"order":              {file("b"), link("a", s.outside), file("a/x")},
		"unknown type":       {{Path: []byte("a"), Type: 9}},
		"size below zero":    {sized("a", func(e *catalog.Entry) { e.Size = -1 })},
		"size without data":  {sized("a", func(e *catalog.Entry) { e.Size = 10 })},
		"huge size":          {sized("a", func(e *catalog.Entry) { e.Size, e.Chunks = math.MaxInt64, id })},
		"huge hole":          {sized("a", func(e *catalog.Entry) { e.Size, e.Data = math.MaxInt64, []catalog.Range{} })},
		"range past the end": {sized("a", func(e *catalog.Entry) { e.Size, e.Data, e.Chunks = 5, []catalog.Range{{Offset: 4, Length: 2}}, id })},
		"range overflow": {sized("a", func(e *catalog.Entry) {
			e.Size, e.Data, e.Chunks = 5, []catalog.Range{{Offset: math.MaxInt64, Length: math.MaxInt64}}, id
		})},
		"ranges overlap": {sized("a", func(e *catalog.Entry) {
			e.Size, e.Data, e.Chunks = 5, []catalog.Range{{Offset: 0, Length: 3}, {Offset: 2, Length: 2}}, id
		})},
		"no piece":   {sized("a", func(e *catalog.Entry) { e.Size, e.Chunking, e.Chunks = 5, catalog.Fixed, id })},
		"huge piece": {sized("a", func(e *catalog.Entry) { e.Size, e.Chunking, e.Piece, e.Chunks = 5, catalog.Fixed, 1<<31, id })},
		"too many pieces": {sized("a", func(e *catalog.Entry) {
			e.Size, e.Chunking, e.Piece, e.Chunks = 5, catalog.Fixed, 512, make([]pack.ChunkID, 3)
		})},
		"unknown chunking": {sized("a", func(e *catalog.Entry) { e.Size, e.Chunking, e.Chunks = 5, 7, id })},
		"no such chunk":    {sized("a", func(e *catalog.Entry) { e.Size, e.Chunks = 5, id })},
		"no such page":     {sized("a", func(e *catalog.Entry) { e.Size, e.Chunks, e.IDPages, e.Chunking = 5, id, true, catalog.Content })},
		"link to nothing":  {link("a", "")},
		"link with NUL":    {link("a", "x\x00y")},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			m.entries = entries
			os.RemoveAll(s.target)
			res, err := restoreTo(t, m, Options{Target: s.target})
			if err != nil {
				t.Fatal(err)
			}
			if res.Complete() || len(res.Problems) == 0 {
				t.Error("nothing was refused")
			}
			s.check(t)
			noTemps(t, s.target)
		})
	}
}

func TestWrongChunks(t *testing.T) {
	for name, break_ := range map[string]func(m *memory, e *catalog.Entry){
		"single too short": func(m *memory, e *catalog.Entry) {
			e.Chunks = []pack.ChunkID{m.put([]byte("x"))}
			e.Chunking = catalog.Whole
		},
		"single too long": func(m *memory, e *catalog.Entry) {
			e.Chunks = []pack.ChunkID{m.put(pattern(1, 5000))}
			e.Chunking = catalog.Whole
		},
		"one missing":   func(m *memory, e *catalog.Entry) { m.broken[e.Chunks[1]] = true },
		"sum too short": func(m *memory, e *catalog.Entry) { e.Chunks = e.Chunks[:2] },
		"sum too long":  func(m *memory, e *catalog.Entry) { e.Chunks = append(e.Chunks, m.put([]byte("more"))) },
		"empty chunk":   func(m *memory, e *catalog.Entry) { e.Chunks[0] = m.put(nil) },
		"bad page":      func(m *memory, e *catalog.Entry) { e.Chunks, e.IDPages = []pack.ChunkID{m.put(pattern(1, 33))}, true },
		"short page": func(m *memory, e *catalog.Entry) {
			e.Chunks = e.Chunks[:2]
			m.paged(e)
		},
	} {
		for _, shuffle := range []bool{false, true} {
			t.Run(fmt.Sprint(name, shuffle), func(t *testing.T) {
				m := newMemory()
				m.shuffle = shuffle
				m.file("before", []byte("1"))
				break_(m, m.file("hit", pattern(5, 3000), 1000, 1000))
				m.file("later", pattern(6, 3000), 1000, 1000)
				m.sort()
				dir := t.TempDir()
				res := mustRestore(t, m, Options{Target: dir})
				if res.Failed != 1 || res.Problems[0].Path != "hit" || res.Problems[0].What != Missing && res.Problems[0].What != BadEntry {
					t.Errorf("problems: %v", res.Problems)
				}
				if _, err := os.Lstat(filepath.Join(dir, "hit")); err == nil {
					t.Error("a damaged file has got its name")
				}
				m.entries = append(m.entries[:1], m.entries[2])
				check(t, dir, m, "")
			})
		}
	}
}

func TestUnreachable(t *testing.T) {
	m := newMemory()
	m.file("a", []byte("a"))
	p, err := NewPlan(t.Context(), m.all, Options{Target: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("gone")
	for _, c := range []Chunks{readFunc(func(emit func(int, []byte) error) error { return gone }),
		readFunc(func(emit func(int, []byte) error) error { return nil }),
		readFunc(func(emit func(int, []byte) error) error { return emit(5, nil) })} {
		res, err := p.Run(t.Context(), m.all, c)
		if err != nil || res.ByKind[Missing] != 1 {
			t.Errorf("%v, %+v", err, res)
		}
	}
}

type readFunc func(emit func(int, []byte) error) error

func (f readFunc) Read(ctx context.Context, want []pack.ChunkID, emit func(int, []byte) error) error {
	return f(emit)
}

// TestSwapper lets somebody replace directories by symlinks to the outside, and files
// by links to a secret, all the time.
func TestSwapper(t *testing.T) {
	s := newSandbox(t)
	m := newMemory()
	for d := range 20 {
		m.dir(fmt.Sprintf("d%d", d), 0o777)
		for i := range 20 {
			m.file(fmt.Sprintf("d%d/f%d", d, i), pattern(uint64(i), 2000), 900)
			m.dir(fmt.Sprintf("d%d/s%d", d, i), 0o777)
			m.file(fmt.Sprintf("d%d/s%d/x", d, i), []byte("x"))
			m.add(catalog.Entry{Path: fmt.Appendf(nil, "d%d/l%d", d, i), Type: catalog.Symlink, Target: []byte("t"), Mode: 0o777})
			h := m.file(fmt.Sprintf("d%d/s%d/h", d, i), []byte("hard"))
			h.Inode, h.Links = uint64(d), 20
		}
	}
	m.sort()
	if err := os.Mkdir(s.target, 0o777); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		swaps := 0
		for ; ; swaps++ {
			select {
			case <-stop:
				done <- swaps
				return
			default:
			}
			name := filepath.Join(s.target, fmt.Sprintf("d%d", swaps%20))
			swap(name, s.outside)
			swap(filepath.Join(name, fmt.Sprintf("s%d", swaps%7)), s.outside)
			swap(filepath.Join(name, fmt.Sprintf("f%d", swaps%5)), filepath.Join(s.outside, "secret"))
		}
	}()
	for range 5 {
		p, err := NewPlan(t.Context(), m.all, Options{Target: s.target, Overwrite: Always, Resume: true, NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Run(t.Context(), m.all, m); err != nil {
			t.Log(err)
		}
	}
	close(stop)
	t.Logf("%d swaps", <-done)
	s.check(t)
}

// swap puts a symlink in the place of a name for a moment.
func swap(name, to string) {
	if os.Rename(name, name+".away") != nil {
		return
	}
	os.Symlink(to, name)
	os.Remove(name)
	os.Rename(name+".away", name)
}

// FuzzEntries restores catalogs made up from the fuzzer's bytes: nothing may crash,
// nothing outside may change, nothing temporary may stay.
func FuzzEntries(f *testing.F) {
	f.Add([]byte("0a\x01b/c\x02..\x00/"), uint8(0))
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 200, 100, 50, 25, 12, 6, 3}, uint8(3))
	f.Add([]byte("\x00\x02\x01\x00\x00\x00\x21\x01\x01\x02\x03\x04"), uint8(9))
	f.Fuzz(func(t *testing.T, in []byte, flags uint8) {
		s := newSandbox(t)
		m := newMemory()
		g := &gen{in: in, m: m, outside: s.outside}
		for len(g.in) > 0 && len(m.entries) < 50 {
			g.entry()
		}
		if flags&1 != 0 {
			m.sort()
		}
		o := Options{Target: s.target, Overwrite: Overwrite(flags >> 1 & 1 * 2), Resume: flags&4 != 0, Untrusted: flags&8 != 0, NoSync: true}
		if flags&16 != 0 {
			o.StripPrefix = []byte("a")
		}
		if flags&32 != 0 {
			o.Verify, o.NewHash = VerifyFull, newHash
		}
		m.shuffle = flags&64 != 0
		for range 2 {
			p, err := NewPlan(t.Context(), m.all, o)
			if err != nil {
				break
			}
			if _, err := p.Run(t.Context(), m.all, m); err != nil {
				t.Log(err)
			}
			s.check(t)
			if _, err := os.Lstat(s.target); err == nil {
				noTemps(t, s.target)
			}
			o.Resume = true
		}
	})
}

// gen makes entries out of bytes.
type gen struct {
	in      []byte
	m       *memory
	outside string
}

func (g *gen) next() int {
	if len(g.in) == 0 {
		return 0
	}
	b := g.in[0]
	g.in = g.in[1:]
	return int(b)
}

func (g *gen) path() string {
	elements := []string{"a", "b", "c", "..", ".", "", "a", "b", "a.", "a/b", "\x00", g.outside, "secret", "\xff", "~"}
	var parts []string
	for range g.next()%4 + 1 {
		parts = append(parts, elements[g.next()%len(elements)])
	}
	return strings.Join(parts, "/")
}

func (g *gen) entry() {
	e := catalog.Entry{Path: []byte(g.path()), Type: catalog.Type(g.next() % 7), Mode: uint32(g.next()) << 4, MTime: int64(g.next())}
	switch e.Type {
	case catalog.Symlink:
		e.Target = []byte(g.path())
	case catalog.CharDevice, catalog.BlockDevice:
		e.Rdev = uint64(g.next())<<32 | uint64(g.next())
	case catalog.File:
		g.contents(&e)
	}
	if n := g.next(); n&1 != 0 {
		e.Links, e.Inode = uint32(n>>1&3), uint64(n>>3&1)
	}
	if g.next()&7 == 7 {
		e.Flags = catalog.Flags(g.next() & 7)
	}
	g.m.add(e)
}

func (g *gen) contents(e *catalog.Entry) {
	stream := pattern(uint64(g.next()), g.next()*8)
	e.Size = int64(len(stream))
	g.m.cut(e, stream, g.next()+1, g.next()+1)
	switch g.next() % 8 {
	case 1:
		e.Chunking, e.Piece = catalog.Fixed, uint32(g.next())*16
	case 2:
		g.m.paged(e)
	case 3:
		e.Size = int64(g.next()) << (g.next() % 60)
	case 4, 5:
		for range g.next() % 4 {
			e.Data = append(e.Data, catalog.Range{Offset: int64(g.next() * 16), Length: int64(g.next())})
		}
	case 6:
		e.Chunking = catalog.Chunking(g.next() % 4)
	}
}
