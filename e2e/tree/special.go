package tree

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	nameMax   = 255  // bytes of one name
	targetMax = 4095 // bytes of a symbolic link's target
)

// hostileNames are names that trip programs which print, split, match or sort
// them carelessly. All are legal.
func hostileNames() []string {
	return []string{
		"new\nline", "\nfirst", "tab\there", "carriage\rreturn", "bell\a", "escape\x1b[31mred", "del\x7f",
		"'single'", "\"double\"", "mixed'\"", "`back`", "$HOME", "${x}", "$(id)", "%s%n%00", "a&b;c|d", "a>b<c", "#hash", "!bang",
		"-", "--", "-rf", "--help", "--to=elsewhere", "@file", "+plus", "=equals", "a=b",
		" leading", "trailing ", "   ", ".", "two  spaces", ".hidden", "..hidden", "...", "dot.", "~", "~end", "~user",
		"*", "?", "[a-z]", "{x,y}", "**", "back\\slash", "c:\\windows", "CON", "nul.txt", "a:b",
		"\xff", "\xfe\xff", "latin1-\xe9t\xe9", "cut-\xe2\x82", "over-\xc0\xaf-long", "surrogate-\xed\xa0\x80", "\x80",
		"\u00e9", "e\u0301", "\u202egnp.exe", "\u200b", "\ufeffbom", "日本語", "🛟", "ß", "ẞ", "Case", "case", "CASE",
		strings.Repeat("n", nameMax), strings.Repeat("é", nameMax/2) + "x", strings.Repeat("\xff", nameMax),
		// Neighbours of a directory called "a": a slash sorts below all of these.
		"a\x01", "a ", "a!", "a-", "a.", "a.b", "a0", "ab",
		"{\"json\":1}", "yaml: [", "null", "0", "00", "1e3",
	}
}

func (m *maker) names() error {
	if err := m.mkdir("names"); err != nil {
		return err
	}
	for i, n := range hostileNames() {
		if n == "." {
			continue
		}
		err := m.file("names/"+n, []byte(fmt.Sprint("name ", i)))
		if errors.Is(err, unix.EILSEQ) || errors.Is(err, unix.EINVAL) {
			m.skip(fmt.Sprintf("name %q", n), err)
			continue
		}
		if err != nil {
			return err
		}
	}
	for i, n := range []string{"a", "dir\nnew", "-dir", "dir \xff", "*dir", strings.Repeat("d", nameMax)} {
		if err := m.mkdir("names/" + n); err != nil {
			return err
		}
		if err := m.file("names/"+n+"/in\nside", []byte(fmt.Sprint("inside ", i))); err != nil {
			return err
		}
	}
	return nil
}

func (m *maker) symlinks() error {
	if err := m.mkdir("symlinks"); err != nil {
		return err
	}
	if err := m.mkdir("symlinks/dir"); err != nil {
		return err
	}
	if err := m.file("symlinks/dir/file", []byte("behind a link")); err != nil {
		return err
	}
	for _, l := range []struct{ name, target string }{
		{"to-file", "dir/file"}, {"to-dir", "dir"}, {"to-dir-slash", "dir/"}, {"dangling", "nowhere"}, {"absolute", "/etc/hostname"},
		{"absolute-dangling", "/no/such/place"}, {"self", "self"}, {"loop-a", "loop-b"}, {"loop-b", "loop-a"}, {"up", ".."}, {"here", "."},
		{"outside", "../../../../../../../../etc/passwd"}, {"root", "/"}, {"double", "dir//../dir/./file"}, {"short", "x"},
		{"newline", "a\nb"}, {"bytes", "\xff\xfe"}, {"dash", "-rf"}, {"space", " "}, {"long", long(targetMax)}, {"long-60", long(60)}, {"long-59", long(59)},
	} {
		err := m.symlink(l.target, "symlinks/"+l.name)
		if errors.Is(err, unix.ENAMETOOLONG) { // some file systems take only 1,023 bytes
			m.skip("symlink "+l.name, err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// long is a path of exactly n bytes.
func long(n int) string {
	return strings.Repeat("component/", n/10+1)[:n-1] + "x"
}

func (m *maker) hardLinks() error {
	for _, d := range []string{"links", "links/one", "links/two"} {
		if err := m.mkdir(d); err != nil {
			return err
		}
	}
	for n := 2; n <= 5; n++ {
		first := fmt.Sprintf("links/one/group-%d", n)
		if err := m.file(first, random(m.rng, int64(n)*10000)); err != nil {
			return err
		}
		for i := 2; i <= n; i++ {
			if err := m.link(first, fmt.Sprintf("links/%s/group-%d-name-%d", []string{"one", "two"}[i%2], n, i)); err != nil {
				return err
			}
		}
	}
	// Two groups of the same contents and attributes: they must not become one.
	for _, n := range []string{"twin-a", "twin-b"} {
		a := m.plain(0o644)
		a.mtime = unix.NsecToTimespec(m.o.Now.UnixNano())
		if err := m.fileAs("links/"+n, []byte("twin"), a); err != nil {
			return err
		}
		if err := m.link("links/"+n, "links/two/"+n); err != nil {
			return err
		}
	}
	if err := m.file("links/empty", nil); err != nil {
		return err
	}
	if err := m.link("links/empty", "links/two/empty"); err != nil {
		return err
	}
	if err := m.symlink("one", "links/symlink"); err != nil {
		return err
	}
	if err := m.link("links/symlink", "links/two/symlink"); err != nil {
		return err
	}
	if err := m.node("links/fifo", unix.S_IFIFO, 0, &m.made.Fifos); err != nil {
		return err
	}
	return m.link("links/fifo", "links/two/fifo")
}

func (m *maker) link(old, name string) error {
	if err := unix.Linkat(unix.AT_FDCWD, m.at(old), unix.AT_FDCWD, m.at(name), 0); err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	m.made.HardLinks++
	return nil
}

// node makes a fifo, a socket or a device. Where that is not allowed it is left out.
func (m *maker) node(name string, kind uint32, dev uint64, count *int) error {
	err := unix.Mknod(m.at(name), kind|0o600, int(dev))
	if errors.Is(err, unix.EPERM) {
		m.skip("node "+name, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("mknod %s: %w", name, err)
	}
	*count++
	m.plan(name, m.plain(0o640))
	return nil
}

func (m *maker) specials() error {
	if err := m.mkdir("special"); err != nil {
		return err
	}
	if err := m.node("special/fifo", unix.S_IFIFO, 0, &m.made.Fifos); err != nil {
		return err
	}
	if err := m.node("special/socket", unix.S_IFSOCK, 0, &m.made.Sockets); err != nil {
		return err
	}
	if !m.o.Privileged {
		return nil
	}
	for _, d := range []struct {
		name         string
		kind         uint32
		major, minor uint32
	}{
		{"null", unix.S_IFCHR, 1, 3}, {"char-large", unix.S_IFCHR, 4095, 1048575}, {"char-zero", unix.S_IFCHR, 0, 0},
		{"block", unix.S_IFBLK, 7, 200}, {"block-large", unix.S_IFBLK, 259, 300000},
	} {
		if err := m.node("special/"+d.name, d.kind, unix.Mkdev(d.major, d.minor), &m.made.Devices); err != nil {
			return err
		}
	}
	return nil
}

func (m *maker) modes() error {
	if err := m.mkdir("modes"); err != nil {
		return err
	}
	files := []uint32{0o400, 0o444, 0o600, 0o640, 0o666, 0o755, 0o777, 0o4755, 0o2755, 0o6755, 0o1644, 0o7777, 0o4644, 0o2644}
	dirs := []uint32{0o500, 0o555, 0o700, 0o1777, 0o2775, 0o3777, 0o7777}
	if m.o.Privileged || m.o.Unreadable {
		files = append(files, 0, 0o111, 0o200, 0o4000)
		dirs = append(dirs, 0, 0o111, 0o300)
	}
	for _, mode := range files {
		if err := m.fileAs(fmt.Sprintf("modes/file-%04o", mode), []byte("mode"), m.plain(mode)); err != nil {
			return err
		}
	}
	for _, mode := range dirs {
		name := fmt.Sprintf("modes/dir-%04o", mode)
		if err := m.mkdirAs(name, m.plain(mode)); err != nil {
			return err
		}
		if err := m.file(name+"/file", []byte("inside")); err != nil {
			return err
		}
		if err := m.mkdir(name + "/dir"); err != nil {
			return err
		}
	}
	return nil
}

func (m *maker) times() error {
	if err := m.mkdir("times"); err != nil {
		return err
	}
	when := []time.Time{
		time.Unix(0, 0), time.Unix(0, 1), time.Unix(-1, 999999999), time.Unix(-1, 1), time.Unix(-1000000000, 123456789),
		time.Unix(1, 0), time.Unix(1<<31-1, 999999999), time.Unix(1<<31, 0), time.Unix(1<<32+5, 7), time.Unix(1<<33, 999999999),
		time.Date(2026, 6, 1, 12, 0, 0, 1, time.UTC), time.Date(2026, 6, 1, 12, 0, 0, 999999999, time.UTC),
	}
	if m.o.FarTimes {
		when = append(when, time.Date(2400, 2, 29, 23, 59, 59, 987654321, time.UTC))
	}
	for i, t := range when {
		a := m.plain(0o644)
		a.mtime = unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
		name := fmt.Sprintf("times/%02d", i)
		if err := m.fileAs(name+"-file", []byte("time"), a); err != nil {
			return err
		}
		d := a
		d.mode = 0o755
		if err := m.mkdirAs(name+"-dir", d); err != nil {
			return err
		}
		if err := os.Symlink("x", m.at(name+"-link")); err != nil {
			return err
		}
		m.made.Symlinks++
		m.planLink(name+"-link", a)
	}
	return nil
}

// owners gives files, directories, links and fifos to ids that no user has.
func (m *maker) owners() error {
	if !m.o.Privileged {
		return nil
	}
	if err := m.mkdir("owners"); err != nil {
		return err
	}
	for i, o := range [][2]int{{12345, 54321}, {0, 65534}, {65534, 0}, {1 << 31, 1<<31 - 1}, {1<<32 - 2, 1<<32 - 2}, {1, 2}} {
		a := m.plain(0o4750)
		a.uid, a.gid = o[0], o[1]
		name := fmt.Sprintf("owners/%d", i)
		if err := m.fileAs(name+"-file", []byte("owner"), a); err != nil {
			return err
		}
		d := a
		d.mode = 0o2750
		if err := m.mkdirAs(name+"-dir", d); err != nil {
			return err
		}
		if err := os.Symlink("x", m.at(name+"-link")); err != nil {
			return err
		}
		m.made.Symlinks++
		m.planLink(name+"-link", a)
	}
	return nil
}
