package snapshot_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot"
	"lifeboat/snapshot/source/volume"
	"lifeboat/storage"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
	"lifeboat/storage/storetest"
)

// Data of the benchmarks. It is on disk and, just written, in the page cache.
const (
	engineBytes = 1 << 30 // of large files
	engineParts = 4       // in so many of them
	engineFiles = 200_000 // small ones, for runs without changes
	engineDirs  = 2_000
)

// BenchmarkEngine measures the hot path alone, against the budgets of
// docs/design.md: read, cut, name, look up, compress, seal, hash, and open again
// with verify full; the region takes everything and keeps no data.
//
//	go test ./snapshot -run '^$' -bench Engine -benchtime 1x -count 3
func BenchmarkEngine(b *testing.B) {
	b.Run("random", func(b *testing.B) { benchmarkInitial(b, func(dir string) error { return largeFiles(dir, randomFile) }) })
	b.Run("text", func(b *testing.B) {
		corpus, err := goSources()
		if err != nil {
			b.Fatal(err)
		}
		benchmarkInitial(b, func(dir string) error {
			return largeFiles(dir, func(w io.Writer, n int64, seed uint64) error { return textFile(w, corpus, n, seed) })
		})
	})
	b.Run("gotree", func(b *testing.B) {
		root, err := goRoot()
		if err != nil {
			b.Fatal(err)
		}
		benchmarkInitial(b, func(dir string) error { return os.CopyFS(dir, os.DirFS(filepath.Join(root, "src"))) })
	})
	b.Run("unchanged", benchmarkUnchanged)
}

// benchmarkInitial is the first snapshot of a tree, with and without verifying.
func benchmarkInitial(b *testing.B, fill func(dir string) error) {
	dir := b.TempDir()
	if err := fill(dir); err != nil {
		b.Fatal(err)
	}
	unix.Sync()
	for _, v := range []pack.Verify{pack.VerifyFull, pack.VerifyOff} {
		b.Run(v.String(), func(b *testing.B) {
			var files, bytes uint64
			var cpu time.Duration
			for b.Loop() {
				b.StopTimer()
				e := newEngine(b)
				warm(b, dir)
				began := cpuTime(b)
				b.StartTimer()
				m := e.backup(dir, v)
				b.StopTimer()
				cpu += cpuTime(b) - began
				files, bytes = files+m.Stats.Files, bytes+m.Stats.Bytes
				b.SetBytes(int64(m.Stats.Bytes))
				b.ReportMetric(float64(m.Stats.BytesNew)/float64(m.Stats.BytesStored), "plain/stored")
				e.close()
				b.StartTimer()
			}
			b.ReportMetric(float64(files)/b.Elapsed().Seconds(), "files/s")
			b.ReportMetric(float64(cpu)/float64(bytes), "cpu-ns/B")
		})
	}
}

// benchmarkUnchanged is a snapshot of a tree of which nothing has changed,
// beside a bare walk over it.
func benchmarkUnchanged(b *testing.B) {
	dir := b.TempDir()
	if err := smallFiles(dir, engineFiles, engineDirs); err != nil {
		b.Fatal(err)
	}
	unix.Sync()
	b.Run("walk", func(b *testing.B) {
		began := cpuTime(b)
		for b.Loop() {
			v, err := volume.New(volume.Options{Paths: []string{dir}})
			if err != nil {
				b.Fatal(err)
			}
			if err := v.Walk(b.Context(), func(*volume.Stat) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(engineFiles*float64(b.N)/b.Elapsed().Seconds(), "files/s")
		b.ReportMetric(float64(cpuTime(b)-began)/(engineFiles*float64(b.N)), "cpu-ns/file")
	})
	b.Run("backup", func(b *testing.B) {
		e := newEngine(b)
		defer e.close()
		e.backup(dir, pack.VerifyFull)
		began := cpuTime(b)
		for b.Loop() {
			if m := e.backup(dir, pack.VerifyFull); m.Stats.Unmodified != engineFiles {
				b.Fatalf("%d of %d files counted as unmodified", m.Stats.Unmodified, engineFiles)
			}
		}
		b.ReportMetric(engineFiles*float64(b.N)/b.Elapsed().Seconds(), "files/s")
		b.ReportMetric(float64(cpuTime(b)-began)/(engineFiles*float64(b.N)), "cpu-ns/file")
	})
}

// warm reads everything once, since a busy kernel may have dropped some of it.
func warm(b *testing.B, dir string) {
	b.Helper()
	buf := make([]byte, 256<<10)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, buf)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
}

// cpuTime is what this process has used so far. Beside busy neighbours it tells
// more than the clock.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// engine is a repository with default keys in one region that keeps no data.
type engine struct {
	b    *testing.B
	repo *repo.Repo
}

func newEngine(b *testing.B) *engine {
	b.Helper()
	regions := []repo.Region{{Name: "a", Store: &discarding{Store: storetest.Memory(), sizes: map[string]int64{}}}}
	made, err := repo.Create(b.Context(), repo.CreateOptions{Regions: regions, Now: time.Now()})
	if err != nil {
		b.Fatal(err)
	}
	state, err := repo.SaveState(b.TempDir(), made.ID, made.Root.Public(), made.Writer, nil)
	if err != nil {
		b.Fatal(err)
	}
	r, err := repo.Open(b.Context(), repo.Options{Regions: regions, State: state, CacheDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	return &engine{b: b, repo: r}
}

func (e *engine) close() {
	if err := e.repo.Close(); err != nil {
		e.b.Fatal(err)
	}
}

// later is the time an hour from now, so that no file counts as just changed.
func later() time.Time { return time.Now().Add(time.Hour) }

// backup is one whole session, from joining the region to the acknowledgement.
func (e *engine) backup(dir string, v pack.Verify) *repo.Manifest {
	e.b.Helper()
	m, err := e.session(e.b.Context(), dir, v)
	if err != nil {
		e.b.Fatal(err)
	}
	return m
}

func (e *engine) session(ctx context.Context, dir string, v pack.Verify) (*repo.Manifest, error) {
	s, err := e.repo.Begin(ctx, repo.SessionOptions{Required: 1, Verify: v, Now: later})
	if err != nil {
		return nil, err
	}
	t, err := snapshot.NewTaker(e.repo, s, runtime.GOMAXPROCS(0)+1)
	if err != nil {
		return nil, err
	}
	opt := snapshot.Options{Workload: "files", Kind: "volume", Host: "h", Paths: []string{dir}, Verify: v, Now: later}
	if parent, ok := snapshot.Parent(ctx, e.repo, s, "files"); ok {
		opt.Parent = parent
	}
	p, err := t.Take(ctx, opt)
	if err != nil {
		return nil, err
	}
	if err := t.Flush(ctx); err != nil {
		return nil, err
	}
	if _, err := s.Commit(ctx, []repo.Prepared{*p}); err != nil {
		return nil, err
	}
	return p.Manifest, s.End(ctx, false)
}

// discarding is a region that takes packs of data and forgets all but their sizes.
type discarding struct {
	storage.Store
	mu    sync.Mutex
	sizes map[string]int64
}

func (d *discarding) Put(ctx context.Context, key string, data []byte, sum [32]byte) error {
	if !strings.HasPrefix(key, "packs/") || !strings.Contains(key, "/d/") {
		return d.Store.Put(ctx, key, data, sum)
	}
	d.mu.Lock()
	d.sizes[key] = int64(len(data))
	d.mu.Unlock()
	return d.Store.Put(ctx, key, nil, sum)
}

func (d *discarding) Stat(ctx context.Context, key string) (storage.Info, error) {
	info, err := d.Store.Stat(ctx, key)
	return d.sized(info), err
}

func (d *discarding) List(ctx context.Context, opt storage.ListOptions) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for info, err := range d.Store.List(ctx, opt) {
			if !yield(d.sized(info), err) {
				return
			}
		}
	}
}

func (d *discarding) sized(info storage.Info) storage.Info {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n, ok := d.sizes[info.Key]; ok {
		info.Size = n
	}
	return info
}

// largeFiles makes the large files with one.
func largeFiles(dir string, one func(w io.Writer, n int64, seed uint64) error) error {
	for i := range engineParts {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("part-%d", i)))
		if err != nil {
			return err
		}
		if err := one(f, engineBytes/engineParts, uint64(i)); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

func randomFile(w io.Writer, n int64, seed uint64) error {
	_, err := io.CopyN(w, rand.NewChaCha8([32]byte{byte(seed)}), n)
	return err
}

// textFile writes stretches of the corpus in random order: it compresses as
// source code does, and no chunk comes twice.
func textFile(w io.Writer, corpus []byte, n int64, seed uint64) error {
	const most = 8 << 10
	rng := rand.New(rand.NewPCG(seed, 1))
	var buf bytes.Buffer
	for left := n; left > 0; left -= int64(buf.Len()) {
		buf.Reset()
		for buf.Len() < 1<<20 {
			at := rng.IntN(len(corpus) - most)
			buf.Write(corpus[at : at+1+rng.IntN(most)])
		}
		buf.Truncate(int(min(left, int64(buf.Len()))))
		if _, err := w.Write(buf.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// goRoot is the folder of the Go toolchain in use.
func goRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	return strings.TrimSpace(string(out)), err
}

// goSources is the text of the toolchain's own source.
func goSources() ([]byte, error) {
	root, err := goRoot()
	if err != nil {
		return nil, err
	}
	var all []byte
	err = filepath.WalkDir(filepath.Join(root, "src"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		all = append(all, text...)
		return err
	})
	return all, err
}

// smallFiles makes n files of a few bytes, evenly in so many directories.
func smallFiles(dir string, n, dirs int) error {
	for d := range dirs {
		sub := filepath.Join(dir, fmt.Sprintf("d%04d", d))
		if err := os.Mkdir(sub, 0o755); err != nil {
			return err
		}
		for i := n * d / dirs; i < n*(d+1)/dirs; i++ {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%07d", i)), fmt.Appendf(nil, "%d", i), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
