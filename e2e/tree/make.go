package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Options say what Make makes. The zero value is a full tree for an
// unprivileged user.
type Options struct {
	Seed        uint64
	Privileged  bool      // make also what only root can: owners, devices, trusted and security attributes
	Unreadable  bool      // without Privileged: make also files that their owner may not read
	Files       int       // ordinary files beside the special ones; 0 is 200
	Large       int64     // bytes of the largest ordinary file; 0 is 3 MiB
	Wide        int       // entries of the wide directory; 0 is 2,000
	Deep        int       // levels of the deep directory; 0 is 300
	PastPathMax bool      // give the deep directory names so long that no path reaches its end
	FarTimes    bool      // also mtimes after 2262, which 64 bits of nanoseconds do not hold
	Image       bool      // put an ext4 image in, when mkfs.ext4 is there
	Now         time.Time // the newest time in the tree; zero is 2026-01-02 03:04:05
}

const (
	filesDefault = 200
	largeDefault = 3 << 20 // bytes
	wideDefault  = 2000
	deepDefault  = 300
	imageBytes   = 64 << 20
)

func (o Options) withDefaults() Options {
	if o.Files == 0 {
		o.Files = filesDefault
	}
	if o.Large == 0 {
		o.Large = largeDefault
	}
	if o.Wide == 0 {
		o.Wide = wideDefault
	}
	if o.Deep == 0 {
		o.Deep = deepDefault
	}
	if o.Now.IsZero() {
		o.Now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	}
	return o
}

// Made tells what a tree holds.
type Made struct {
	Files, Dirs, Symlinks, Fifos, Sockets, Devices, HardLinks int
	Skipped                                                   []string // what this user or file system could not make, and why
}

// Make fills dir, which is made when it is missing, with a torture tree. The
// same options give the same contents, names and attributes, but for the image,
// which holds ctimes.
func Make(dir string, o Options) (Made, error) {
	o = o.withDefaults()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Made{}, err
	}
	m := &maker{dir: dir, o: o, rng: rand.New(rand.NewPCG(o.Seed, 0x7472656520736565))}
	m.plan(".", m.plain(0o755))
	steps := []struct {
		name string
		make func() error
	}{
		{"ordinary files", m.ordinary}, {"sizes", m.sizes}, {"sparse files", m.sparse}, {"names", m.names},
		{"symbolic links", m.symlinks}, {"hard links", m.hardLinks}, {"special files", m.specials},
		{"modes", m.modes}, {"attributes", m.attributes}, {"access lists", m.accessLists}, {"times", m.times},
		{"owners", m.owners}, {"page files", m.pageFiles}, {"directories", m.dirs}, {"wide directory", m.wide},
		{"deep directory", m.deep},
	}
	for _, s := range steps {
		if err := s.make(); err != nil {
			return m.made, fmt.Errorf("make %s: %w", s.name, err)
		}
	}
	return m.made, m.finish()
}

// maker makes one tree. Attributes are set when all is made, children first:
// making a child changes its directory's times, and needs its permissions.
type maker struct {
	dir    string
	o      Options
	rng    *rand.Rand
	made   Made
	finals []final
}

// attrs are the attributes that a made object gets at the end.
type attrs struct {
	mode   uint32 // permission bits; not for symbolic links
	uid    int    // -1 leaves it
	gid    int
	mtime  unix.Timespec
	xattrs []xattr
}

type xattr struct {
	name  string
	value []byte
}

type final struct {
	path string
	link bool
	attrs
}

// own is the attributes' "leave the owner alone".
const own = -1

func (m *maker) at(name string) string { return filepath.Join(m.dir, name) }

// plan sets the attributes of name at the end. Zero owners mean: unchanged.
func (m *maker) plan(name string, a attrs) {
	m.finals = append(m.finals, final{path: m.at(name), attrs: a})
}

func (m *maker) planLink(name string, a attrs) {
	m.finals = append(m.finals, final{path: m.at(name), link: true, attrs: a})
}

// finish sets attributes, last made first, so directories come after their contents.
func (m *maker) finish() error {
	for _, f := range slices.Backward(m.finals) {
		if err := m.set(f); err != nil {
			return fmt.Errorf("set attributes of %q: %w", f.path, err)
		}
	}
	return nil
}

// set gives one object its attributes. The order matters: a change of owner
// clears setuid bits and capabilities, user attributes need a file that can be
// written, and a change of mode rewrites the mask of an access list.
func (m *maker) set(f final) error {
	if m.o.Privileged && (f.uid != own || f.gid != own) {
		if err := unix.Lchown(f.path, f.uid, f.gid); err != nil {
			return fmt.Errorf("chown: %w", err)
		}
	}
	isList := func(x xattr) bool { return strings.HasPrefix(x.name, "system.") }
	for _, x := range f.xattrs {
		if !isList(x) {
			if err := m.setXattr(f.path, x); err != nil {
				return err
			}
		}
	}
	if !f.link {
		if err := unix.Chmod(f.path, f.mode); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	for _, x := range f.xattrs {
		if isList(x) {
			if err := m.setXattr(f.path, x); err != nil {
				return err
			}
		}
	}
	when := []unix.Timespec{f.mtime, f.mtime}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, f.path, when, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("utimensat: %w", err)
	}
	return nil
}

// setXattr leaves out what this file system or user cannot have.
func (m *maker) setXattr(path string, x xattr) error {
	err := unix.Lsetxattr(path, x.name, x.value, 0)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.E2BIG) {
		m.skip("attribute "+x.name+" on "+filepath.Base(path), err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("setxattr %s: %w", x.name, err)
	}
	return nil
}

func (m *maker) skip(what string, err error) {
	m.made.Skipped = append(m.made.Skipped, fmt.Sprintf("%s: %v", what, err))
}

// pastTime is a random time of the five years before Now, to the nanosecond.
func (m *maker) pastTime() unix.Timespec {
	const fiveYears = 5 * 365 * 24 * int64(time.Hour)
	return unix.NsecToTimespec(m.o.Now.UnixNano() - m.rng.Int64N(fiveYears))
}

// plain are the attributes of an object that is tested for something else.
func (m *maker) plain(mode uint32) attrs {
	return attrs{mode: mode, uid: own, gid: own, mtime: m.pastTime()}
}

// mkdir makes a directory with ordinary attributes.
func (m *maker) mkdir(name string) error { return m.mkdirAs(name, m.plain(0o755)) }

func (m *maker) mkdirAs(name string, a attrs) error {
	if err := os.Mkdir(m.at(name), 0o700); err != nil {
		return err
	}
	m.made.Dirs++
	m.plan(name, a)
	return nil
}

// file makes a file with ordinary attributes.
func (m *maker) file(name string, data []byte) error { return m.fileAs(name, data, m.plain(0o644)) }

func (m *maker) fileAs(name string, data []byte, a attrs) error {
	f, err := os.OpenFile(m.at(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	m.made.Files++
	m.plan(name, a)
	return nil
}

func (m *maker) symlink(target, name string) error {
	if err := os.Symlink(target, m.at(name)); err != nil {
		return err
	}
	m.made.Symlinks++
	m.planLink(name, m.plain(0))
	return nil
}

// ordinary makes a small project: nested directories of text and binary files,
// some of them twice.
func (m *maker) ordinary() error {
	dirs := []string{"files"}
	if err := m.mkdir("files"); err != nil {
		return err
	}
	var earlier []byte
	for i := range m.o.Files {
		if i%10 == 0 {
			dir := fmt.Sprintf("%s/d%03d", dirs[m.rng.IntN(len(dirs))], i/10)
			if err := m.mkdir(dir); err != nil {
				return err
			}
			dirs = append(dirs, dir)
		}
		data := m.contents(m.size())
		if i%17 == 16 {
			data = earlier
		}
		earlier = data
		name := fmt.Sprintf("%s/f%05d.%s", dirs[m.rng.IntN(len(dirs))], i, []string{"go", "txt", "dat"}[i%3])
		if err := m.file(name, data); err != nil {
			return err
		}
	}
	return nil
}

// size draws a file's size: most are small, few are large.
func (m *maker) size() int64 {
	switch p := m.rng.IntN(100); {
	case p < 5:
		return 0
	case p < 85:
		return m.rng.Int64N(32 << 10)
	case p < 97:
		return m.rng.Int64N(min(512<<10, m.o.Large))
	}
	return m.rng.Int64N(m.o.Large)
}

// contents are random, text, or one repeated block.
func (m *maker) contents(n int64) []byte {
	switch m.rng.IntN(4) {
	case 0:
		return random(m.rng, n)
	case 1:
		return repeated(m.rng, n)
	}
	return Text(m.rng, n)
}

// sizes makes files at the edges where programs cut.
func (m *maker) sizes() error {
	if err := m.mkdir("sizes"); err != nil {
		return err
	}
	for _, n := range []int64{
		0, 1, 2, 511, 512, 513, 4095, 4096, 4097, 32767, 32768, 32769, 65535, 65536, 65537,
		256<<10 - 1, 256 << 10, 256<<10 + 1, 1<<20 - 1, 1 << 20, 1<<20 + 1,
	} {
		if err := m.file(fmt.Sprintf("sizes/random-%d", n), random(m.rng, n)); err != nil {
			return err
		}
	}
	if err := m.file("sizes/large", random(m.rng, m.o.Large)); err != nil {
		return err
	}
	return m.file("sizes/zeros", make([]byte, 1<<20+5)) // data that looks like a hole and is none
}

// random gives n bytes that do not compress.
func random(rng *rand.Rand, n int64) []byte {
	b := make([]byte, (n+7)/8*8)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rng.Uint64())
	}
	return b[:n]
}

// repeated gives n bytes of one short block over and over.
func repeated(rng *rand.Rand, n int64) []byte {
	unit := random(rng, 1+rng.Int64N(3000))
	b := make([]byte, 0, n+int64(len(unit)))
	for int64(len(b)) < n {
		b = append(b, unit...)
	}
	return b[:n]
}
