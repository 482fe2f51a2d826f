package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/e2e/internal/harness"
)

const (
	readerLinesMax = 150             // of the reader that docs/format.md prints
	stockTimeout   = 5 * time.Minute // for one run of it
)

// TestRecoveryWithoutLifeboat brings files back with nothing but what is printed
// in docs/format.md, age, zstd and tar: with the default keys and today's age,
// and from a classic repository with the age that the system has.
func TestRecoveryWithoutLifeboat(t *testing.T) {
	t.Run("hybrid", func(t *testing.T) {
		age, err := harness.Tool("age")
		if err != nil {
			t.Fatal(err)
		}
		testRecovery(t, age)
	})
	t.Run("classic", func(t *testing.T) {
		age, err := exec.LookPath("age")
		if err != nil {
			t.Fatal("age is not installed: apt-get install age")
		}
		testRecovery(t, age, "--classic")
	})
}

func testRecovery(t *testing.T, age string, initFlags ...string) {
	h := harness.NewHost(t)
	src := h.Path("source")
	files := recoveryTree(t, src)
	kit, regions := protect(t, h, src, initFlags)

	h.Must("backup", "files")
	first := clone(files)
	change(t, src, files)
	h.Must("backup", "files")
	// The host, its cache and its keys are gone; one region is left, as a copy.
	for _, gone := range []string{regions[1], h.Path("state"), h.Path("cache"), src} {
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
	}
	s := newStock(t, age, regions[0], kit)
	ids := s.snapshots(t, 2)
	t.Run("newest", func(t *testing.T) { s.compare(t, "files", src, files) })
	t.Run("older", func(t *testing.T) { s.compare(t, ids[0], src, first) })
	t.Run("paths", func(t *testing.T) { s.checkPaths(t, src, files) })
	t.Run("signatures", s.checkSignatures)
	t.Run("by hand", func(t *testing.T) { s.checkByHand(t, files["marker"]) })
	t.Run("without index", func(t *testing.T) {
		index := filepath.Join(regions[0], "index")
		if err := os.Rename(index, h.Path("index")); err != nil {
			t.Fatal(err)
		}
		defer os.Rename(h.Path("index"), index)
		s.compare(t, "files", src, map[string][]byte{"big": files["big"], "d5/f33": files["d5/f33"]})
	})
	t.Run("damage", func(t *testing.T) { s.checkDamage(t, src) })
}

// protect makes a repository in two directory regions.
func protect(t *testing.T, h *harness.Host, src string, initFlags []string) (kit string, regions []string) {
	t.Helper()
	kit, regions = h.Path("kit.txt"), []string{h.Path("region-a"), h.Path("region-b")}
	config := fmt.Sprintf("version: 1\nregions:\n  required: 2\n  list:\n    - {name: a, url: \"file://%s\"}\n    - {name: b, url: \"file://%s\"}\n"+
		"paths: {state: \"%s\", cache: \"%s\"}\nworkloads:\n  - name: files\n    kind: volume\n    volume: {paths: [\"%s\"]}\n",
		regions[0], regions[1], h.Path("state"), h.Path("cache"), src)
	if err := os.WriteFile(h.Path("lifeboat.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Flags = []string{"--config", h.Path("lifeboat.yaml")}
	h.Must(append([]string{"init", "--yes", "--kit", kit}, initFlags...)...)
	return kit, regions
}

// recoveryTree makes files of every shape that the format has: bundled, cut by
// content, on a grid, with holes, with so many chunks that their ids fill pages.
func recoveryTree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	rng := rand.NewChaCha8([32]byte{7})
	random := func(n int) []byte {
		b := make([]byte, n)
		rng.Read(b)
		return b
	}
	files := map[string][]byte{
		"empty": {}, "marker": random(64), "odd\n\xff name": []byte("odd"), "a/b": []byte("y"), "a-b": []byte("x"), "a.c": []byte("z"),
		"big":       append(random(9<<20), bytes.Repeat([]byte("compressible "), 100_000)...),
		"db.sqlite": append([]byte("SQLite format 3\x00"), random(12<<20)...),
		"all-hole":  make([]byte, 5<<20),
		"holes":     make([]byte, 20<<20),
		"vm.qcow2":  make([]byte, 40<<20),
	}
	copy(files["holes"][3<<20:], random(1<<20))
	copy(files["holes"][15<<20:], random(300_000))
	copy(files["vm.qcow2"], append([]byte("QFI\xfb"), random(4092)...))
	copy(files["vm.qcow2"][20<<20+4096:], random(1<<20))
	for i := range 200 {
		files[fmt.Sprintf("d%d/f%02d", i%7, i)] = random(i * 97)
	}
	for name, data := range files {
		writeSparse(t, filepath.Join(dir, name), data)
	}
	return files
}

// writeSparse leaves out what is zero.
func writeSparse(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(len(data))); err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 4096)
	for at := 0; at < len(data); at += len(zero) {
		block := data[at:min(at+len(zero), len(data))]
		if bytes.Equal(block, zero[:len(block)]) {
			continue
		}
		if _, err := f.WriteAt(block, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
}

// change edits what there is, so that the second snapshot takes most of its
// entries and packs over from the first.
func change(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	files["big"] = append([]byte("something in front "), files["big"]...)
	files["new"] = []byte("new")
	for _, name := range []string{"big", "new"} {
		writeSparse(t, filepath.Join(dir, name), files[name])
	}
	delete(files, "a.c")
	if err := os.Remove(filepath.Join(dir, "a.c")); err != nil {
		t.Fatal(err)
	}
}

func clone(files map[string][]byte) map[string][]byte {
	out := map[string][]byte{}
	for name, data := range files {
		out[name] = data
	}
	return out
}

// stock is a machine that has python3, age, zstd and tar, and nothing of lifeboat.
type stock struct {
	dir, region, kit string
	python           string
	env              []string
}

func newStock(t *testing.T, age, region, kit string) *stock {
	t.Helper()
	s := &stock{dir: t.TempDir(), region: region, kit: kit}
	bin := filepath.Join(s.dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"age", "zstd", "tar"} {
		path, err := age, error(nil)
		if name != "age" {
			path, err = exec.LookPath(name)
		}
		if err != nil {
			t.Fatalf("%s is not installed: apt-get install %s", name, name)
		}
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Fatalf("python3 is not installed: %v", err)
	}
	s.python = strings.TrimSpace(string(out)) // not a wrapper that wants more of the PATH
	s.env = []string{"PATH=" + bin, "HOME=" + s.dir, "LANG=C.UTF-8", "TMPDIR=" + s.dir}
	for _, name := range []string{"reader.py", "signatures.py"} {
		s.extract(t, name)
	}
	return s
}

// extract takes a listing out of the format document.
func (s *stock) extract(t *testing.T, name string) {
	t.Helper()
	root, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join(root, "docs", "format.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(doc), "<!-- "+name+": begin -->\n```python\n")
	code, _, closed := strings.Cut(rest, "```\n<!-- "+name+": end -->")
	if !found || !closed {
		t.Fatalf("docs/format.md has no listing %s", name)
	}
	if n := strings.Count(code, "\n"); n > readerLinesMax {
		t.Errorf("%s has %d lines, at most %d", name, n, readerLinesMax)
	}
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs a program of the machine and gives its output.
func (s *stock) run(t *testing.T, stdin []byte, name string, args ...string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), stockTimeout)
	defer cancel()
	path := filepath.Join(s.dir, "bin", name)
	if name == "python3" {
		path = s.python
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Dir, cmd.Stdin = s.env, s.dir, bytes.NewReader(stdin)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, errs.Bytes())
	}
	return out, err
}

// snapshots lists the ids, oldest first.
func (s *stock) snapshots(t *testing.T, want int) []string {
	t.Helper()
	out, err := s.run(t, nil, "python3", "reader.py", s.region, s.kit)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[1] != "files" {
			t.Fatalf("line %q", line)
		}
		ids = append(ids, f[2])
	}
	if len(ids) != want {
		t.Fatalf("%d snapshots, want %d: %s", len(ids), want, out)
	}
	return ids
}

// compare recovers the named files one by one; of the many small ones, some.
func (s *stock) compare(t *testing.T, ref, src string, files map[string][]byte) {
	t.Helper()
	for name, want := range files {
		if strings.HasPrefix(name, "d") && strings.Contains(name, "/") && !strings.HasSuffix(name, "33") {
			continue
		}
		got, err := s.recover(t, ref, filepath.Join(src, name))
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%q: %d bytes, want %d, or they differ", name, len(got), len(want))
		}
	}
}

// recover brings one file back.
func (s *stock) recover(t *testing.T, ref, path string) ([]byte, error) {
	t.Helper()
	out := filepath.Join(s.dir, "out")
	if err := os.RemoveAll(out); err != nil {
		return nil, err
	}
	if _, err := s.run(t, nil, "python3", "reader.py", s.region, s.kit, ref, path, out); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(out)
	if err == nil && len(data) > 1<<20 {
		err = checkHoles(out, data)
	}
	return data, err
}

// checkHoles makes sure that a mostly empty file takes little of the disk.
func checkHoles(path string, data []byte) error {
	out, err := exec.Command("stat", "-c", "%b", path).Output()
	if err != nil {
		return err
	}
	var blocks, filled int
	if _, err := fmt.Sscan(string(out), &blocks); err != nil {
		return err
	}
	zero := make([]byte, 32<<10)
	for at := 0; at < len(data); at += len(zero) {
		if block := data[at:min(at+len(zero), len(data))]; !bytes.Equal(block, zero[:len(block)]) {
			filled += len(zero)
		}
	}
	if blocks*512 > filled+1<<20 {
		return fmt.Errorf("takes %d bytes of the disk for %d bytes that are not holes", blocks*512, filled)
	}
	return nil
}

// checkPaths compares the list of paths with what there was.
func (s *stock) checkPaths(t *testing.T, src string, files map[string][]byte) {
	out, err := s.run(t, nil, "python3", "reader.py", s.region, s.kit, "files")
	if err != nil {
		t.Fatal(err)
	}
	for name := range files {
		if !bytes.Contains(out, []byte(filepath.Join(src, name)+"\n")) {
			t.Errorf("%q is not listed", name)
		}
	}
	if bytes.Contains(out, []byte("/a.c\n")) {
		t.Error("a removed file is listed")
	}
}

func (s *stock) checkSignatures(t *testing.T) {
	out, err := s.run(t, nil, "python3", "signatures.py", s.region, s.kit)
	if err != nil || !bytes.HasSuffix(out, []byte(" good, 0 bad\n")) {
		t.Fatalf("%s %v", out, err)
	}
	// A statement of nobody's, under the right name for its bytes.
	names, err := filepath.Glob(filepath.Join(s.region, "journal", "*", "*", "*.json"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no statements: %v", err)
	}
	doc, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Replace(doc, []byte(`"seq":`), []byte(`"seq": `), 1)
	name := filepath.Join(filepath.Dir(names[0]), fmt.Sprintf("%s-%s.json", filepath.Base(names[0])[:16], fmt.Sprintf("%x", sha256.Sum256(forged))))
	if err := os.WriteFile(name, forged, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = s.run(t, nil, "python3", "signatures.py", s.region, s.kit)
	if err == nil || !bytes.Contains(out, []byte("is not signed by a key that counts")) {
		t.Errorf("a forged statement passed: %s %v", out, err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

// checkByHand finds known bytes with tar, age and zstd alone.
func (s *stock) checkByHand(t *testing.T, marker []byte) {
	wrapped, err := filepath.Glob(filepath.Join(s.region, "keys", "data-0001", "*.age"))
	if err != nil || len(wrapped) == 0 {
		t.Fatalf("no data key: %v", err)
	}
	text, err := s.run(t, nil, "age", "-d", "-i", s.kit, wrapped[0])
	if err != nil {
		t.Fatal(err)
	}
	var key struct{ Secret string }
	if err := json.Unmarshal(text, &key); err != nil {
		t.Fatal(err)
	}
	identity := filepath.Join(s.dir, "data.key")
	if err := os.WriteFile(identity, []byte(key.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	packs, err := filepath.Glob(filepath.Join(s.region, "packs", "*", "d", "*", "*.tar"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("no packs: %v", err)
	}
	for _, pack := range packs {
		if s.holds(t, pack, identity, marker) {
			return
		}
	}
	t.Errorf("the bytes are in none of %d packs", len(packs))
}

// holds looks for bytes in the frames of one pack.
func (s *stock) holds(t *testing.T, pack, identity string, marker []byte) bool {
	t.Helper()
	dir, err := os.MkdirTemp(s.dir, "pack-")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.run(t, nil, "tar", "xf", pack, "-C", dir); err != nil {
		t.Fatal(err)
	}
	frames, err := filepath.Glob(filepath.Join(dir, "[0-9]*.zst.age"))
	if err != nil || len(frames) == 0 {
		t.Fatalf("%s has no frames: %v", pack, err)
	}
	for _, frame := range frames {
		stream, err := s.run(t, nil, "age", "-d", "-i", identity, frame)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := s.run(t, stream, "zstd", "-dcq")
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(plain, marker) {
			return true
		}
	}
	return false
}

// checkDamage flips one bit of every data pack: the reader must notice, and say where.
func (s *stock) checkDamage(t *testing.T, src string) {
	packs, err := filepath.Glob(filepath.Join(s.region, "packs", "*", "d", "*", "*.tar"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("no packs: %v", err)
	}
	for _, pack := range packs {
		data, err := os.ReadFile(pack)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.Chmod(pack, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(pack, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.recover(t, "files", filepath.Join(src, "big")); err == nil {
		t.Error("damaged packs went unnoticed")
	} else if !strings.Contains(err.Error(), "damaged") {
		t.Errorf("the error does not say what is damaged: %v", err)
	}
}
