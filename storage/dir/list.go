package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"lifeboat/storage"
)

// depthMax bounds the descent: no key has more elements.
const depthMax = 16

// List implements storage.Store. Only regular files whose names can be keys
// are objects; everything else in the directory is passed over.
func (s *Store) List(ctx context.Context, opt storage.ListOptions) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		err := storage.CheckPrefix(opt.Prefix)
		if err == nil {
			w := walk{store: s, ctx: ctx, opt: opt, yield: yield}
			err = w.folder(opt.Prefix[:strings.LastIndexByte(opt.Prefix, '/')+1], 0)
		}
		if err != nil && !errors.Is(err, errStop) {
			yield(storage.Info{}, fmt.Errorf("list %s: %w", opt.Prefix, err))
		}
	}
}

// errStop ends a walk whose consumer has seen enough.
var errStop = errors.New("stop")

type walk struct {
	store *Store
	ctx   context.Context
	opt   storage.ListOptions
	yield func(storage.Info, error) bool
}

// folder lists what lies in one folder; its name is empty or ends in "/".
func (w *walk) folder(name string, depth int) error {
	if depth > depthMax {
		return nil // too deep for a key
	}
	entries, err := w.read(name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if err := w.entry(name, e, depth); err != nil {
			return err
		}
	}
	return nil
}

// entry is a name in a folder; a folder's ends in "/", so that sorting by it
// gives the order of the keys.
type entry struct {
	name string
	fs.DirEntry
}

func (w *walk) read(name string) ([]entry, error) {
	d, err := w.store.root.OpenFile(path.Clean("./"+name), os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		if err = w.store.classify(err); errors.Is(err, storage.ErrNotFound) {
			return nil, nil // no folder, no keys; no region would be another error
		}
		return nil, err
	}
	defer d.Close()
	list, err := d.ReadDir(-1)
	if err != nil {
		return nil, w.store.classify(err)
	}
	entries := make([]entry, 0, len(list))
	for _, e := range list {
		full := e.Name()
		if e.IsDir() {
			full += "/"
		}
		if e.IsDir() || e.Type().IsRegular() {
			entries = append(entries, entry{name: full, DirEntry: e})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return entries, nil
}

func (w *walk) entry(folder string, e entry, depth int) error {
	key := folder + e.name
	if storage.CheckPrefix(key) != nil {
		return nil
	}
	if e.IsDir() {
		return w.subfolder(key, depth)
	}
	if !strings.HasPrefix(key, w.opt.Prefix) || key <= w.opt.StartAfter {
		return nil
	}
	fi, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted since
	}
	if err != nil {
		return w.store.classify(err)
	}
	return w.give(describe(key, fi))
}

// subfolder lists or names a folder, unless nothing in it can be asked for.
func (w *walk) subfolder(key string, depth int) error {
	if !strings.HasPrefix(key, w.opt.Prefix) && !strings.HasPrefix(w.opt.Prefix, key) {
		return nil
	}
	if !w.opt.Delimited || !strings.HasPrefix(key, w.opt.Prefix) || key == w.opt.Prefix {
		if key < w.opt.StartAfter && !strings.HasPrefix(w.opt.StartAfter, key) {
			return nil // every key in it sorts before StartAfter
		}
		return w.folder(key, depth+1)
	}
	if key <= w.opt.StartAfter {
		return nil
	}
	used, err := w.used(key, depth+1)
	if err != nil || !used {
		return err
	}
	return w.give(storage.Info{Key: key, Dir: true})
}

// used says whether any object lies below a folder: an empty folder is no group.
func (w *walk) used(folder string, depth int) (bool, error) {
	if depth > depthMax {
		return false, nil
	}
	entries, err := w.read(folder)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		key := folder + e.name
		if storage.CheckPrefix(key) != nil {
			continue
		}
		if !e.IsDir() {
			return true, nil
		}
		if used, err := w.used(key, depth+1); used || err != nil {
			return used, err
		}
	}
	return false, nil
}

func (w *walk) give(info storage.Info) error {
	if !w.yield(info, nil) {
		return errStop
	}
	return nil
}
