package tree

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Ignore says what Compare leaves out. The zero value leaves nothing out.
type Ignore struct {
	Sockets bool     // objects that are sockets
	Owners  bool     // as an unprivileged restore cannot give files away
	Holes   bool     // where they are; the bytes are compared all the same
	Root    bool     // the root directory's own attributes
	Xattrs  []string // attributes whose name begins so
	Paths   []string // these paths and all below them
}

// Difference is one thing in which two trees differ.
type Difference struct {
	Path string
	What string // missing, extra, type, contents, size, holes, mode, owner, mtime, xattr …, target, device, hard links, unreadable
	Want string
	Got  string
}

func (d Difference) String() string {
	return fmt.Sprintf("%q: %s: want %s, got %s", d.Path, d.What, d.Want, d.Got)
}

// CompareDirs takes a picture of both and compares them.
func CompareDirs(want, got string, ignore Ignore) ([]Difference, error) {
	a, err := Take(want)
	if err != nil {
		return nil, err
	}
	b, err := Take(got)
	if err != nil {
		return nil, err
	}
	return Compare(a, b, ignore), nil
}

// Compare reports every difference, in the order of paths.
func Compare(want, got *Picture, ignore Ignore) []Difference {
	c := &comparer{ignore: ignore}
	a, b := c.chosen(want), c.chosen(got)
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && walkOrder(a[0].Path, b[0].Path) < 0:
			c.add(a[0].Path, "missing", a[0].Type(), "nothing")
			a = a[1:]
		case len(a) == 0 || walkOrder(a[0].Path, b[0].Path) > 0:
			c.add(b[0].Path, "extra", "nothing", b[0].Type())
			b = b[1:]
		default:
			c.object(a[0], b[0])
			a, b = a[1:], b[1:]
		}
	}
	return c.all
}

// Only gives the part of a picture that is at or below a path, with the path as its root.
func (p *Picture) Only(root string) *Picture {
	var part Picture
	for _, o := range p.Objects {
		if o.Path == root {
			o.Path = "."
		} else if rest, ok := strings.CutPrefix(o.Path, root+"/"); ok {
			o.Path = rest
		} else {
			continue
		}
		part.Objects = append(part.Objects, o)
	}
	return &part
}

// walkOrder compares paths as Take walks: a slash is below every other byte,
// and the root is before all.
func walkOrder(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == ".":
		return -1
	case b == ".":
		return 1
	}
	for {
		x, restA, moreA := strings.Cut(a, "/")
		y, restB, moreB := strings.Cut(b, "/")
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
		switch {
		case !moreA && !moreB:
			return 0
		case !moreA:
			return -1
		case !moreB:
			return 1
		}
		a, b = restA, restB
	}
}

type comparer struct {
	ignore Ignore
	all    []Difference
}

func (c *comparer) add(path, what, want, got string) {
	c.all = append(c.all, Difference{path, what, want, got})
}

// chosen are the objects that count. Groups are named anew by their first
// path among these: a group whose other names are left out is none.
func (c *comparer) chosen(p *Picture) []*Object {
	var chosen []*Object
	first, names := map[string]string{}, map[string]int{}
	for i := range p.Objects {
		o := &p.Objects[i]
		if c.ignore.Sockets && o.Mode&unix.S_IFMT == unix.S_IFSOCK || c.left(o.Path) {
			continue
		}
		chosen = append(chosen, o)
		if o.Group != "" {
			if names[o.Group]++; names[o.Group] == 1 {
				first[o.Group] = o.Path
			}
		}
	}
	for i, o := range chosen {
		if o.Group == "" {
			continue
		}
		named := *o
		named.Group = ""
		if names[o.Group] > 1 {
			named.Group = first[o.Group]
		}
		chosen[i] = &named
	}
	return chosen
}

func (c *comparer) left(p string) bool {
	for _, out := range c.ignore.Paths {
		if p == out || strings.HasPrefix(p, out+"/") {
			return true
		}
	}
	return false
}

func (c *comparer) object(a, b *Object) {
	at := a.Path
	if c.ignore.Root && at == "." {
		return
	}
	if a.Type() != b.Type() {
		c.add(at, "type", a.Type(), b.Type())
		return
	}
	if a.Problem != "" || b.Problem != "" {
		c.add(at, "unreadable", orOK(a.Problem), orOK(b.Problem))
	}
	if a.Mode != b.Mode {
		c.add(at, "mode", fmt.Sprintf("%04o", a.Mode&07777), fmt.Sprintf("%04o", b.Mode&07777))
	}
	if !c.ignore.Owners && (a.UID != b.UID || a.GID != b.GID) {
		c.add(at, "owner", fmt.Sprintf("%d:%d", a.UID, a.GID), fmt.Sprintf("%d:%d", b.UID, b.GID))
	}
	if !a.MTime.Equal(b.MTime) {
		const form = "2006-01-02T15:04:05.999999999Z"
		c.add(at, "mtime", a.MTime.Format(form), b.MTime.Format(form))
	}
	if a.Target != b.Target {
		c.add(at, "target", fmt.Sprintf("%q", a.Target), fmt.Sprintf("%q", b.Target))
	}
	if a.Rdev != b.Rdev {
		c.add(at, "device", device(a.Rdev), device(b.Rdev))
	}
	if a.Group != b.Group {
		c.add(at, "hard links", orAlone(a.Group), orAlone(b.Group))
	}
	c.contents(a, b)
	c.xattrs(a, b)
}

// contents compares size, bytes and holes.
func (c *comparer) contents(a, b *Object) {
	if a.Size != b.Size {
		c.add(a.Path, "size", fmt.Sprint(a.Size), fmt.Sprint(b.Size))
	}
	if a.Sum != b.Sum {
		c.add(a.Path, "contents", fmt.Sprintf("%x", a.Sum[:8]), fmt.Sprintf("%x", b.Sum[:8]))
	}
	if !c.ignore.Holes && a.Size == b.Size && !slices.Equal(a.Data, b.Data) {
		c.add(a.Path, "holes", describe(a.Data), describe(b.Data))
	}
}

func (c *comparer) xattrs(a, b *Object) {
	keys := maps.Clone(a.Xattrs)
	if keys == nil {
		keys = map[string]string{}
	}
	maps.Copy(keys, b.Xattrs)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if slices.ContainsFunc(c.ignore.Xattrs, func(p string) bool { return strings.HasPrefix(key, p) }) {
			continue
		}
		x, inA := a.Xattrs[key]
		y, inB := b.Xattrs[key]
		if inA != inB || x != y {
			c.add(a.Path, fmt.Sprintf("xattr %q", key), value(x, inA), value(y, inB))
		}
	}
}

func value(v string, there bool) string {
	if !there {
		return "nothing"
	}
	if len(v) > 64 {
		return fmt.Sprintf("%q and %d bytes more", v[:64], len(v)-64)
	}
	return fmt.Sprintf("%q", v)
}

func device(d uint64) string { return fmt.Sprintf("%d:%d", unix.Major(d), unix.Minor(d)) }

func orOK(s string) string {
	if s == "" {
		return "readable"
	}
	return s
}

func orAlone(s string) string {
	if s == "" {
		return "alone"
	}
	return fmt.Sprintf("as %q", s)
}

func describe(spans []Span) string {
	const most = 8
	if len(spans) == 0 {
		return "no data"
	}
	var b bytes.Buffer
	for i, s := range spans {
		if i == most {
			fmt.Fprintf(&b, " … %d spans", len(spans))
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%d+%d", s.Offset, s.Length)
	}
	return b.String()
}

// Count tells how many objects there are of each type.
func (p *Picture) Count() map[string]int {
	n := map[string]int{}
	for i := range p.Objects {
		n[p.Objects[i].Type()]++
	}
	return n
}

// Find gives the object at a path.
func (p *Picture) Find(name string) (*Object, bool) {
	name = path.Clean(name)
	for i := range p.Objects {
		if p.Objects[i].Path == name {
			return &p.Objects[i], true
		}
	}
	return nil, false
}
