package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
)

// check compares what is in dir with the entries, below strip.
func check(t *testing.T, dir string, m *memory, strip string) {
	t.Helper()
	inodes := map[string]uint64{}
	found := 0
	for i := range m.entries {
		e := &m.entries[i]
		rel := string(e.Path)
		if strip != "" {
			if rel = strings.TrimPrefix(rel, strip); rel == string(e.Path) {
				continue
			}
		}
		found++
		path := filepath.Join(dir, rel)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if st.Mode&unix.S_IFMT != format(e.Type) {
			t.Errorf("%s: type %o", path, st.Mode)
		}
		if e.Type != catalog.Symlink && st.Mode&0o7777 != e.Mode {
			t.Errorf("%s: mode %o, want %o", path, st.Mode&0o7777, e.Mode)
		}
		if st.Uid != e.UID || st.Gid != e.GID {
			t.Errorf("%s: owner %d:%d, want %d:%d", path, st.Uid, st.Gid, e.UID, e.GID)
		}
		if got := st.Mtim.Nano(); got != e.MTime {
			t.Errorf("%s: mtime %d, want %d", path, got, e.MTime)
		}
		if e.Links > 1 {
			key := linkKey(e)
			if inodes[key] == 0 {
				inodes[key] = st.Ino
			} else if inodes[key] != st.Ino {
				t.Errorf("%s: not linked", path)
			}
		}
		switch e.Type {
		case catalog.File:
			checkContents(t, path, m, e)
		case catalog.Symlink:
			if got, _ := os.Readlink(path); got != string(e.Target) {
				t.Errorf("%s: target %q, want %q", path, got, e.Target)
			}
		case catalog.CharDevice, catalog.BlockDevice:
			if uint64(st.Rdev) != deviceNumber(e) {
				t.Errorf("%s: device %x", path, st.Rdev)
			}
		}
		for _, x := range e.Xattrs {
			buf := make([]byte, 4096)
			n, err := unix.Lgetxattr(path, x.Name, buf)
			if err != nil || !bytes.Equal(buf[:n], x.Value) {
				t.Errorf("%s: xattr %s = %q, %v", path, x.Name, buf[:max(n, 0)], err)
			}
		}
	}
	if found == 0 {
		t.Error("nothing compared")
	}
	noTemps(t, dir)
}

func noTemps(t *testing.T, dir string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), tempPrefix) {
			t.Errorf("left over: %s", path)
		}
		return nil
	})
}

func checkContents(t *testing.T, path string, m *memory, e *catalog.Entry) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	want := make([]byte, e.Size)
	lay, err := newLayout(e)
	if err != nil {
		t.Fatal(err)
	}
	lay.own()
	ids := e.Chunks
	if e.IDPages {
		ids = nil
		for _, page := range e.Chunks {
			more, err := parseIDs(m.data[page])
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, more...)
		}
	}
	g, pos := grid{l: &lay}, int64(0)
	for _, id := range ids {
		at := pos
		if lay.fixed {
			piece, _ := g.take()
			at = piece.Offset
		}
		data := m.data[id]
		lay.spread(at, data, func(offset int64, part []byte) error { copy(want[offset:], part); return nil })
		pos += int64(len(data))
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: contents differ (%d bytes, want %d)", path, len(got), len(want))
	}
}

// tree is a bit of everything.
func tree(t testing.TB) *memory {
	m := newMemory()
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	root := uid == 0
	m.dir("srv/files", 0o750)
	m.file("srv/files/a", []byte("hello"))
	m.file("srv/files/empty", nil)
	m.dir("srv/files/d", 0o555)
	m.file("srv/files/d/big", pattern(1, 300_000), 70_000, 5, 100_000, 1)
	m.dir("srv/files/d/inner", 0o700)
	m.file("srv/files/d/inner/x", []byte("x"))
	m.file("srv/files/d-e", []byte("sorts after what is in d"))
	m.dir("srv/files/nothing", 0o2770)
	m.file("srv/files/\xff\xfe bad utf8\n", []byte("name"))
	m.file("srv/files/"+strings.Repeat("n", 255), []byte("long"))
	l1 := m.file("srv/files/d/link1", []byte("linked"))
	l1.Inode, l1.Dev, l1.Links = 7, 1, 3
	for _, name := range []string{"srv/files/link0", "srv/files/link2"} {
		e := *l1
		e.Path = []byte(name)
		m.add(e)
	}
	m.add(catalog.Entry{Path: []byte("srv/files/sym"), Type: catalog.Symlink, Mode: 0o777, Target: []byte("/etc/passwd"), MTime: someTime})
	m.add(catalog.Entry{Path: []byte("srv/files/dangling"), Type: catalog.Symlink, Mode: 0o777, Target: []byte("no/such"), MTime: someTime})
	m.add(catalog.Entry{Path: []byte("srv/files/fifo"), Type: catalog.Fifo, Mode: 0o640, MTime: someTime})
	suid := m.file("srv/files/suid", []byte("#!"))
	suid.Mode = 0o4755
	old := m.file("srv/files/old", []byte("before 1970"))
	old.MTime = -1_000_000_001
	x := m.file("srv/files/xattr", []byte("x"))
	x.Xattrs = []catalog.Xattr{{Name: "user.note", Value: []byte("v")}}
	fixed := m.file("srv/files/disk.img", nil)
	fixed.Chunking, fixed.Piece, fixed.Size = catalog.Fixed, 4096, 10_000
	image := pattern(3, 10_000)
	fixed.Chunks = append(fixed.Chunks, m.put(image[:4096]), m.put(image[4096:8192]), m.put(image[8192:]))
	if root {
		m.add(catalog.Entry{Path: []byte("srv/files/null"), Type: catalog.CharDevice, Mode: 0o666, Rdev: 1<<32 | 3, MTime: someTime})
		m.add(catalog.Entry{Path: []byte("srv/files/loop"), Type: catalog.BlockDevice, Mode: 0o660, Rdev: 7<<32 | 300, MTime: someTime})
		s := m.add(catalog.Entry{Path: []byte("srv/files/trusted-link"), Type: catalog.Symlink, Mode: 0o777, Target: []byte("a"), MTime: someTime})
		s.Xattrs = []catalog.Xattr{{Name: "trusted.t", Value: []byte("on a link")}}
		c := m.file("srv/files/capable", []byte("x"))
		c.Xattrs = []catalog.Xattr{{Name: "security.capability", Value: []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}}
		c.Mode = 0o755
		uid, gid = 12345, 54321
	}
	for i := range m.entries {
		m.entries[i].UID, m.entries[i].GID = uid, gid
	}
	return m.sort()
}

func TestRoundTrip(t *testing.T) {
	for _, shuffle := range []bool{false, true} {
		for _, verify := range []Verify{VerifyNone, VerifyFull} {
			t.Run(fmt.Sprintf("shuffle=%v,verify=%d", shuffle, verify), func(t *testing.T) {
				m := tree(t)
				m.shuffle = shuffle
				dir := filepath.Join(t.TempDir(), "new")
				res := mustComplete(t, m, Options{Target: dir, StripPrefix: []byte("/srv/files"), Verify: verify, NewHash: newHash})
				check(t, dir, m, "srv/files")
				if verify == VerifyFull && res.VerifiedFiles != res.Files {
					t.Errorf("verified %d of %d files", res.VerifiedFiles, res.Files)
				}
				if res.Links != 2 {
					t.Errorf("%d links", res.Links)
				}
			})
		}
	}
}

func TestLengths(t *testing.T) {
	m := newMemory()
	m.shuffle = true
	data := pattern(1, 200_000)
	var cut []int
	for i := range 400 {
		cut = append(cut, 100+i)
	}
	m.paged(m.file("f", data, cut...))
	o := Options{Target: filepath.Join(t.TempDir(), "a"), NoSync: true, Verify: VerifyFull, NewHash: newHash}
	p, err := NewPlan(t.Context(), m.all, o)
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.Run(t.Context(), m.all, measured{m})
	if err != nil || !res.Complete() {
		t.Fatal(err, res.Problems)
	}
	if m.reads != 2 { // pages, contents
		t.Errorf("%d reads", m.reads)
	}
	check(t, o.Target, m, "")
}

func TestManyWindows(t *testing.T) {
	m := newMemory()
	m.shuffle = true
	m.dir("d", 0o755)
	var cut []int
	for range catalog.PageIDs + 200 {
		cut = append(cut, 3)
	}
	data := pattern(9, 3*len(cut)+10)
	m.paged(m.file("d/content", data, cut...))
	fixed := m.file("d/fixed", nil)
	fixed.Chunking, fixed.Piece, fixed.Size = catalog.Fixed, 8, int64(len(data))
	for piece := range slices.Chunk(data, 8) {
		fixed.Chunks = append(fixed.Chunks, m.put(piece))
	}
	m.paged(fixed)
	for i := range 100 {
		m.file(fmt.Sprintf("d/empty%d", i), nil)
		m.file(fmt.Sprintf("d/small%d", i), fmt.Appendf(nil, "%d", i))
		m.file(fmt.Sprintf("d/medium%d", i), pattern(uint64(i), 100), 10, 20, 30)
	}
	m.sort()
	for _, most := range []limits{defaultLimits(), {100, 50, 1 << 20, 1 << 20}, {7, 3, 1 << 20, 1 << 20}, {1000, 1000, 50, 100_000}, {1000, 1000, 1000, 2000}} {
		for _, chunks := range []Chunks{m, measured{m}} {
			dir := t.TempDir()
			o := Options{Target: dir, Verify: VerifyFull, NewHash: newHash, NoSync: true, Resume: true}
			p, err := NewPlan(t.Context(), m.all, o)
			if err != nil {
				t.Fatal(err)
			}
			p.limits = most
			res, err := p.Run(t.Context(), m.all, chunks)
			if err != nil || !res.Complete() || res.Files != int64(len(m.entries))-1 || res.VerifiedFiles != res.Files {
				t.Fatalf("%v: %v, %v", most, err, res)
			}
			check(t, dir, m, "")
			// The same again keeps everything, and reads nothing if nothing is compared.
			m.given = 0
			res = mustComplete(t, m, Options{Target: dir, Resume: true})
			if res.Files != 0 || res.Kept != int64(len(m.entries)-1) || m.given > 0 {
				t.Errorf("%d written, %d kept, %d bytes read", res.Files, res.Kept, m.given)
			}
		}
	}
}

func TestSparse(t *testing.T) {
	const mib = 1 << 20
	m := newMemory()
	data := pattern(2, 3*mib)
	ranges := []catalog.Range{{Offset: mib, Length: mib}, {Offset: 4 * mib, Length: 2 * mib}}
	content := catalog.Entry{Path: []byte("content"), Mode: 0o600, Size: 20 * mib, Data: ranges, MTime: 1}
	m.cut(&content, data, 700_000, 600_000)
	m.add(content)
	hole := catalog.Entry{Path: []byte("hole"), Mode: 0o600, Size: 1 << 40, Data: []catalog.Range{}, MTime: 1}
	m.add(hole)
	zeros := catalog.Entry{Path: []byte("zeros"), Mode: 0o600, Size: mib, MTime: 1}
	m.cut(&zeros, make([]byte, mib))
	m.add(zeros)
	// Pieces that reach into holes.
	fixed := catalog.Entry{Path: []byte("fixed"), Mode: 0o600, Size: 4*mib + 5, Chunking: catalog.Fixed, Piece: 32 << 10, MTime: 1,
		Data: []catalog.Range{{Offset: 4096, Length: 4096}, {Offset: 12 << 10, Length: 40 << 10}, {Offset: 4 * mib, Length: 5}}}
	image := make([]byte, fixed.Size)
	for _, r := range fixed.Data {
		copy(image[r.Offset:], pattern(uint64(r.Offset), int(r.Length)))
	}
	for piece := range catalog.Pieces(fixed.Size, fixed.Piece, fixed.Data) {
		fixed.Chunks = append(fixed.Chunks, m.put(image[piece.Offset:piece.Offset+piece.Length]))
	}
	m.add(fixed)
	m.sort()
	dir := t.TempDir()
	mustComplete(t, m, Options{Target: dir, Verify: VerifyFull, NewHash: newHash})
	for i := range m.entries {
		e := &m.entries[i]
		var st unix.Stat_t
		path := filepath.Join(dir, string(e.Path))
		if err := unix.Stat(path, &st); err != nil || st.Size != e.Size {
			t.Errorf("%s: size %d, %v", path, st.Size, err)
		}
		if allocated := st.Blocks * 512; allocated > catalog.DataLength(e.Size, e.Data)+64<<10 {
			t.Errorf("%s: %d bytes allocated", path, allocated)
		}
		if e.Data == nil && st.Blocks*512 < e.Size {
			t.Errorf("%s: zeros became a hole", path)
		}
		for _, r := range e.Data {
			checkHole(t, path, r)
		}
		if e.Size < 1<<30 {
			checkContents(t, path, m, e)
		}
	}
}

// checkHole checks that data starts and ends where it should.
func checkHole(t *testing.T, path string, r catalog.Range) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	start, err := unix.Seek(int(f.Fd()), r.Offset, unix.SEEK_DATA)
	end, err2 := unix.Seek(int(f.Fd()), r.Offset, unix.SEEK_HOLE)
	if err != nil || err2 != nil || start != r.Offset || end != r.Offset+r.Length {
		t.Errorf("%s: data %d to %d, want %v (%v, %v)", path, start, end, r, err, err2)
	}
}

func TestDeepTree(t *testing.T) {
	m := newMemory()
	path := strings.Repeat("d", 50)
	m.dir(path, 0o700)
	for range 400 { // some 20,000 bytes, far beyond PATH_MAX, and more levels than handles
		path += "/" + strings.Repeat("e", 50)
		m.dir(path, 0o711)
		m.file(path+"/f", []byte(path))
	}
	m.sort()
	dir := t.TempDir()
	res := mustComplete(t, m, Options{Target: dir, Verify: VerifyFull, NewHash: newHash})
	if res.Dirs != 401 || res.Files != 400 {
		t.Errorf("%d directories, %d files", res.Dirs, res.Files)
	}
	mustComplete(t, m, Options{Target: dir, Resume: true})
}

func TestSeveralPaths(t *testing.T) {
	m := newMemory()
	m.file("home/x/f", []byte("f"))
	m.dir("srv/files", 0o700)
	m.file("srv/files/g", []byte("g"))
	m.sort()
	dir := t.TempDir()
	mustComplete(t, m, Options{Target: dir})
	for _, name := range []string{"home/x/f", "srv/files/g"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestSingleFileWorkload(t *testing.T) {
	m := newMemory()
	m.file("etc/passwd", []byte("root"))
	dir := t.TempDir()
	mustComplete(t, m, Options{Target: dir, StripPrefix: []byte("etc/passwd")})
	if got, _ := os.ReadFile(filepath.Join(dir, "passwd")); string(got) != "root" {
		t.Errorf("%q", got)
	}
}

func TestSelection(t *testing.T) {
	paths := []string{"w/a.txt", "w/b/c.txt", "w/b/d.log", "w/b/e/f.txt", "w/g/h.txt", "w/g/[x]/i.log"}
	for _, tt := range []struct {
		include, exclude []string
		want             string
	}{
		{nil, nil, "a.txt b/c.txt b/d.log b/e/f.txt g/[x]/i.log g/h.txt"},
		{[]string{"/w/b"}, nil, "b/c.txt b/d.log b/e/f.txt"},
		{[]string{"b/c.txt", "./g/"}, nil, "b/c.txt g/[x]/i.log g/h.txt"},
		{[]string{"*.log"}, nil, "b/d.log g/[x]/i.log"},
		{[]string{"**/e/*"}, nil, "b/e/f.txt"},
		{[]string{"b"}, []string{"e"}, "b/c.txt b/d.log"},
		{[]string{"/w/g/[x]"}, nil, "g/[x]/i.log"},
		{[]string{"g/[x]"}, nil, "g/[x]/i.log"},
		{[]string{"[x]"}, nil, "g/[x]/i.log"},
		{nil, []string{"*.txt"}, "b/d.log g/[x]/i.log"},
		{nil, []string{"/w/b/*"}, "a.txt g/[x]/i.log g/h.txt"},
		{nil, []string{`/w/g/\[x\]`}, "a.txt b/c.txt b/d.log b/e/f.txt g/h.txt"},
	} {
		m := newMemory()
		m.dir("w", 0o755)
		for _, d := range []string{"w/b", "w/b/e", "w/g", "w/g/[x]", "w/empty"} {
			m.dir(d, 0o711)
		}
		for _, p := range paths {
			m.file(p, []byte(p))
		}
		m.sort()
		dir := t.TempDir()
		mustComplete(t, m, Options{Target: dir, StripPrefix: []byte("w"), Include: tt.include, Exclude: tt.exclude})
		var got []string
		filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			rel, _ := filepath.Rel(dir, path)
			if d.Type().IsRegular() {
				got = append(got, rel)
			} else if info, _ := d.Info(); rel != "." && info.Mode().Perm() != 0o711 {
				t.Errorf("%s has mode %v", rel, info.Mode())
			}
			if rel == "empty" && tt.include != nil {
				t.Errorf("%v: made an empty directory that was not asked for", tt)
			}
			return nil
		})
		if strings.Join(got, " ") != tt.want {
			t.Errorf("include %q exclude %q: got %q, want %q", tt.include, tt.exclude, got, tt.want)
		}
	}
	m := newMemory()
	m.file("w/a", nil)
	if _, err := restoreTo(t, m, Options{Target: t.TempDir(), Include: []string{"nope"}}); !errors.Is(err, ErrNoMatch) {
		t.Error(err)
	}
	// One that matches does not speak for one that does not, unless that lies in an excluded one.
	if _, err := restoreTo(t, m, Options{Target: t.TempDir(), Include: []string{"/w/a", "/w/typo"}}); !errors.Is(err, ErrNoMatch) || !strings.Contains(err.Error(), "restore /w/typo:") {
		t.Error(err)
	}
	m.dir("w/d", 0o755)
	m.file("w/d/e", nil)
	if _, err := restoreTo(t, m, Options{Target: t.TempDir(), Include: []string{"/w/a", "/w/d", "/w/d/e"}, Exclude: []string{"/w/d"}}); err != nil {
		t.Error(err)
	}
	for _, o := range []Options{{Include: []string{"[a"}}, {Exclude: []string{""}}, {Verify: VerifyFull}, {StripPrefix: []byte("a/../b")}, {}} {
		if o.Include != nil || o.Exclude != nil || o.Verify != 0 || o.StripPrefix != nil {
			o.Target = t.TempDir()
		}
		if _, err := restoreTo(t, m, o); !errors.Is(err, ErrOptions) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestCancel(t *testing.T) {
	m := newMemory()
	for i := range 1000 {
		m.file(fmt.Sprintf("f%03d", i), pattern(uint64(i), 3000), 1000, 1000)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	m.onEmit = func() {
		if n++; n == 500 {
			cancel()
		}
	}
	dir := t.TempDir()
	p, err := NewPlan(ctx, m.all, Options{Target: dir, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(ctx, m.all, m); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	noTemps(t, dir)
	m.onEmit = nil
	res := mustComplete(t, m, Options{Target: dir, Resume: true})
	if res.Files+res.Kept != 1000 {
		t.Errorf("%d written, %d kept", res.Files, res.Kept)
	}
	check(t, dir, m, "")
}

func TestRoots(t *testing.T) {
	for _, tt := range []struct {
		include []string
		want    string
	}{
		{nil, ""}, {[]string{"/w/a", "b/c/"}, "w/a w/b/c"}, {[]string{"/w/a", "b"}, ""}, {[]string{"/w/a", "/w/*/c"}, ""}, {[]string{"["}, ""},
	} {
		o := Options{Include: tt.include, StripPrefix: []byte("/w")}
		roots, ok := o.Roots()
		if got := string(bytes.Join(roots, []byte(" "))); got != tt.want || ok != (tt.want != "") {
			t.Errorf("%q: %q, %v", tt.include, got, ok)
		}
	}
}

// TestInheritedACL restores into a directory that gives what is made in it an ACL.
func TestInheritedACL(t *testing.T) {
	dir := t.TempDir()
	// user::rwx, user:1:rwx, group::r-x, mask::rwx, other::r-x
	acl := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 1, 0, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255,
		16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255}
	if err := unix.Setxattr(dir, aclDefault, acl, 0); err != nil {
		t.Skipf("no ACLs here: %v", err)
	}
	m := newMemory()
	m.dir("d", 0o755)
	m.dir("d/e", 0o755)
	m.file("d/e/f", []byte("f"))
	m.file("d/e/g", []byte("g")).Xattrs = []catalog.Xattr{{Name: aclAccess, Value: acl}}
	m.file("h", nil)
	m.sort()
	mustComplete(t, m, Options{Target: dir, NoOwner: true})
	for path, want := range map[string]bool{"d": false, "d/e": false, "d/e/f": false, "d/e/g": true, "h": false} {
		for _, name := range []string{aclAccess, aclDefault} {
			n, _ := unix.Lgetxattr(filepath.Join(dir, path), name, nil)
			if got := n > 0; got != (want && name == aclAccess) {
				t.Errorf("%s: %s: %v", path, name, got)
			}
		}
	}
	if !hasDefaultACLAt(dir) {
		t.Error("the target has lost its own")
	}
}

func hasDefaultACLAt(dir string) bool {
	n, err := unix.Lgetxattr(dir, aclDefault, nil)
	return err == nil && n > 0
}
