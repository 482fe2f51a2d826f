package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"lifeboat/snapshot/catalog"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
)

// entryRecord is one object of a snapshot, for listings.
type entryRecord struct {
	Path    string    `json:"path"`
	RawPath []byte    `json:"path_bytes,omitempty"` // when the path is not UTF-8
	Type    string    `json:"type"`
	Mode    string    `json:"mode"`
	UID     uint32    `json:"uid"`
	GID     uint32    `json:"gid"`
	User    string    `json:"user,omitempty"`
	Group   string    `json:"group,omitempty"`
	Size    int64     `json:"size_bytes"`
	MTime   time.Time `json:"modified_at"`
	Target  string    `json:"target,omitempty"`
	Flags   []string  `json:"flags,omitempty"`
}

func entryOf(e *catalog.Entry) entryRecord {
	r := entryRecord{Path: "/" + string(e.Path), Type: typeName(e.Type), Mode: fmt.Sprintf("%04o", e.Mode), UID: e.UID, GID: e.GID, User: e.User, Group: e.Group,
		Size: e.Size, MTime: time.Unix(0, e.MTime).UTC(), Target: string(e.Target)}
	if !utf8.Valid(e.Path) {
		r.RawPath = append([]byte("/"), e.Path...)
		r.Path = "/" + strings.ToValidUTF8(string(e.Path), "\uFFFD")
	}
	for _, f := range []struct {
		bit  catalog.Flags
		name string
	}{{catalog.Changed, "changed"}, {catalog.Unreadable, "unreadable"}, {catalog.Partial, "partial"}} {
		if e.Flags&f.bit != 0 {
			r.Flags = append(r.Flags, f.name)
		}
	}
	return r
}

func typeName(t catalog.Type) string {
	names := []string{"file", "dir", "symlink", "fifo", "char_device", "block_device"}
	if int(t) < len(names) {
		return names[t]
	}
	return "unknown"
}

func (a *app) lsCommand() *cobra.Command {
	var long, recursive bool
	var sortBy string
	c := &cobra.Command{
		Use: "ls SNAPSHOT[:PATH]", Short: "List files inside a snapshot", Args: cobra.ExactArgs(1),
		Example: "  lifeboat ls files@latest\n  lifeboat ls files@latest:/srv/files/docs -l\n  lifeboat ls 9f2c1ab4 -R -o jsonl",
	}
	c.Flags().BoolVarP(&long, "long", "l", false, "mode, owner, size and time")
	c.Flags().BoolVarP(&recursive, "recursive", "R", false, "everything below")
	c.Flags().StringVar(&sortBy, "sort", "name", "name, size or time; size and time hold the list in memory")
	return a.lists(a.handle(c, func(ctx context.Context, args []string) (any, bool, error) {
		if !slices.Contains([]string{"name", "size", "time"}, sortBy) {
			return nil, false, &Fail{Code: Usage, Message: fmt.Sprintf("--sort %s", sortBy), Hint: "give name, size or time"}
		}
		t, ref, err := a.snapshotAt(ctx, args[0], "", access{names: true, region: true})
		if err != nil {
			return nil, false, err
		}
		return nil, false, a.ls(ctx, t, ref, long, recursive, sortBy)
	}))
}

func (a *app) ls(ctx context.Context, t *tree, ref reference, long, recursive bool, sortBy string) error {
	top := []byte(ref.Path)
	if ref.Path == "" && len(t.manifest.Roots) == 1 {
		top = []byte(strings.Trim(string(t.manifest.Roots[0]), "/"))
	}
	if err := t.mustExist(ctx, top); err != nil {
		return err
	}
	cols := []column{{title: "PATH"}}
	if long {
		cols = []column{{title: "MODE", width: 10}, {title: "OWNER", width: 13}, {title: "SIZE", width: 10, right: true}, {title: "TIME", width: 19}, {title: "PATH"}}
	}
	out := a.records("entries", cols...)
	p := a.page(a.stdout)
	emit := func(e entryRecord) error {
		name := quotePath(e.Path)
		if e.Type == "symlink" && long {
			name += " -> " + quotePath(e.Target)
		}
		if !long {
			return out.add(e, e.Path, name)
		}
		return out.add(e, e.Path, modeText(e), orElse(e.User, fmt.Sprint(e.UID))+":"+orElse(e.Group, fmt.Sprint(e.GID)), p.size(e.Size), p.time(e.MTime), name)
	}
	var held []entryRecord
	list := t.catalog.Children(ctx, top)
	if recursive || len(top) == 0 && len(t.manifest.Roots) > 1 {
		list = t.catalog.Under(ctx, top)
	}
	any := false
	for e, err := range list {
		if err != nil {
			return err
		}
		any = true
		if sortBy != "name" {
			held = append(held, entryOf(e))
			continue
		}
		if err := emit(entryOf(e)); err != nil {
			return err
		}
	}
	if !any {
		e, ok, err := t.catalog.Lookup(ctx, top)
		if err != nil || !ok || e.Type == catalog.Dir {
			return err
		}
		return emit(entryOf(e))
	}
	slices.SortStableFunc(held, func(x, y entryRecord) int {
		if sortBy == "size" {
			return int(min(max(y.Size-x.Size, -1), 1))
		}
		return y.MTime.Compare(x.MTime)
	})
	for _, e := range held {
		if err := emit(e); err != nil {
			return err
		}
	}
	return nil
}

// mustExist fails when the snapshot has no such path, unless it leads to a root.
func (t *tree) mustExist(ctx context.Context, path []byte) error {
	if len(path) == 0 {
		return nil
	}
	_, ok, err := t.catalog.Lookup(ctx, path)
	if err != nil || ok {
		return err
	}
	for range t.catalog.Under(ctx, path) {
		return nil
	}
	return &Fail{Code: NoRecoveryPoint, Message: fmt.Sprintf("snapshot %.8s of %s has no %s", t.snap.Summary.ID, t.snap.Workload, quotePath("/"+string(path))),
		Hint: fmt.Sprintf("look for it with: lifeboat find %s --workload %s", quotePath(pathBase(string(path))), t.snap.Workload), Err: repo.ErrNoSnapshot}
}

func pathBase(p string) string { return path.Base(p) }

// quotePath keeps control characters and broken UTF-8 off the terminal.
func quotePath(p string) string {
	q := fmt.Sprintf("%q", p)
	if q == `"`+p+`"` {
		return p
	}
	return q
}

func modeText(e entryRecord) string {
	letters := map[string]string{"dir": "d", "symlink": "l", "fifo": "p", "char_device": "c", "block_device": "b"}
	return orElse(letters[e.Type], "-") + e.Mode
}

func (a *app) catCommand() *cobra.Command {
	var out string
	var force bool
	c := &cobra.Command{
		Use: "cat SNAPSHOT:PATH", Short: "Write one file from a snapshot to standard output", Args: cobra.ExactArgs(1),
		Example: "  lifeboat cat files@latest:/srv/files/notes.txt\n  lifeboat cat 9f2c1ab4:/srv/files/db.sqlite --out db.sqlite",
	}
	c.Flags().StringVar(&out, "out", "", "write to this new file instead")
	c.Flags().BoolVar(&force, "force", false, "write binary data to a terminal")
	return a.handle(c, func(ctx context.Context, args []string) (any, bool, error) {
		t, ref, err := a.snapshotAt(ctx, args[0], "", access{names: true, contents: true, region: true})
		if err != nil {
			return nil, false, err
		}
		if ref.Path == "" {
			return nil, false, &Fail{Code: Usage, Message: "which file?", Hint: "as in files@latest:/srv/files/notes.txt"}
		}
		return a.cat(ctx, t, ref, out, force)
	})
}

func (a *app) cat(ctx context.Context, t *tree, ref reference, out string, force bool) (any, bool, error) {
	e, ok, err := t.catalog.Lookup(ctx, []byte(ref.Path))
	if err != nil {
		return nil, false, err
	}
	if !ok {
		return nil, false, t.mustExist(ctx, []byte(ref.Path))
	}
	if e.Type != catalog.File {
		return nil, false, &Fail{Code: Usage, Message: fmt.Sprintf("%s is a %s", quotePath("/"+ref.Path), typeName(e.Type)), Hint: "cat writes files; use restore --path for the rest"}
	}
	if e.Flags&catalog.Unreadable != 0 {
		return nil, false, &Fail{Code: Partial, Message: fmt.Sprintf("%s could not be read when the snapshot was taken", quotePath("/"+ref.Path)), Hint: "try an older snapshot: lifeboat find"}
	}
	if e.Flags&catalog.Changed != 0 {
		a.warn("torn", quotePath("/"+ref.Path)+" changed while it was read for the snapshot: it may be parts of several states")
	}
	if out != "" {
		n, err := t.writeNew(ctx, e.Clone(), out)
		return map[string]any{"path": "/" + ref.Path, "out": out, "bytes": n}, err == nil, err
	}
	if a.isTTY(a.stdout) && !force && e.Size > 0 {
		return nil, false, &Fail{Code: Usage, Message: "the file may hold binary data, which a terminal cannot show", Hint: "use --out FILE, a pipe, or --force"}
	}
	w, err := a.rawOutput()
	if err != nil {
		return nil, false, err
	}
	_, err = t.write(ctx, e.Clone(), w)
	return nil, false, err
}

// writeNew makes a file of its own. One that did not get all is removed: under the
// name that was asked for, it would look whole.
func (t *tree) writeNew(ctx context.Context, e *catalog.Entry, out string) (int64, error) {
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, &Fail{Code: TargetRefused, Message: err.Error(), Hint: "choose a file that does not exist", Err: err}
	}
	n, err := t.write(ctx, e, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return n, errors.Join(err, os.Remove(out))
	}
	return n, nil
}

// write streams a file's contents in order, holes as zeros.
func (t *tree) write(ctx context.Context, e *catalog.Entry, w io.Writer) (int64, error) {
	fw := &fileStream{w: w, e: e, ranges: e.Data}
	if e.Data == nil {
		fw.ranges = []catalog.Range{{Length: e.Size}}
	}
	if e.Chunking == catalog.Fixed {
		fw.ranges = slices.Collect(catalog.Pieces(e.Size, e.Piece, e.Data))
	}
	var want []pack.ChunkID
	flush := func() error {
		parts := make([][]byte, len(want))
		if err := t.reader.Read(ctx, want, func(i int, data []byte) error { parts[i] = slices.Clone(data); return nil }); err != nil {
			return err
		}
		want = want[:0]
		for _, part := range parts {
			if err := fw.chunk(part); err != nil {
				return err
			}
		}
		return nil
	}
	for id, err := range catalog.FileChunks(ctx, e, t.reader) {
		if err != nil {
			return fw.at, err
		}
		if want = append(want, id); len(want) == catChunks {
			if err := flush(); err != nil {
				return fw.at, err
			}
		}
	}
	if err := flush(); err != nil {
		return fw.at, err
	}
	return fw.at, fw.zeros(e.Size)
}

// catChunks is how many chunks cat holds at once: 64 MiB at most.
const catChunks = 16

// fileStream puts chunks where they belong, from front to back.
type fileStream struct {
	w      io.Writer
	e      *catalog.Entry
	ranges []catalog.Range
	at     int64 // bytes written
	in     int64 // of the current range
}

func (f *fileStream) chunk(data []byte) error {
	for len(data) > 0 {
		if len(f.ranges) == 0 {
			return fmt.Errorf("write %s: more contents than the file has room for", quotePath("/"+string(f.e.Path)))
		}
		r := f.ranges[0]
		if err := f.zeros(r.Offset + f.in); err != nil {
			return err
		}
		n := min(int64(len(data)), r.Length-f.in)
		if _, err := f.w.Write(data[:n]); err != nil {
			return err
		}
		f.at, f.in, data = f.at+n, f.in+n, data[n:]
		if f.in == r.Length {
			f.ranges, f.in = f.ranges[1:], 0
		}
	}
	return nil
}

func (f *fileStream) zeros(to int64) error {
	zero := make([]byte, 64<<10)
	for f.at < to {
		n, err := f.w.Write(zero[:min(int64(len(zero)), to-f.at)])
		f.at += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}
