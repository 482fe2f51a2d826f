package pack

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tool skips the test where a program is not installed.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s here", name)
	}
	return path
}

func run(t *testing.T, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(tool(t, name), args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() != 0 {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

// TestStockToolsUnpack follows the recovery instructions with other people's
// programs: tar, then age, then zstd.
func TestStockToolsUnpack(t *testing.T) {
	k := newKeys(t, true) // older age programs do not know the hybrid keys
	want := plains()
	s := buildPack(t, Data, Options{}, k, want...)
	dir := t.TempDir()
	file := filepath.Join(dir, "pack.tar")
	if err := os.WriteFile(file, s.Bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	list := string(run(t, nil, "tar", "tvf", file))
	if n := strings.Count(list, "\n"); n != len(want)+2 || strings.Count(list, "-r-------- 0/0") != n {
		t.Errorf("tar lists\n%s", list)
	}
	run(t, nil, "tar", "xf", file, "-C", dir)
	for i, f := range s.Frames {
		name := string(appendFrameName(nil, i))
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(got, s.Bytes[f.Offset:][:f.Length]) {
			t.Errorf("%s: not the frame: %v", name, err)
		}
	}
	for i, f := range s.Frames { // with our age, and the zstd program
		stream, err := k.openContent(nil, s.Bytes[f.Offset:][:f.Length])
		if err != nil {
			t.Fatal(err)
		}
		if got := run(t, stream, "zstd", "-d", "-c", "-q"); !bytes.Equal(got, want[i]) {
			t.Errorf("frame %d: zstd gives %d bytes, want %d", i, len(got), len(want[i]))
		}
	}
	key := filepath.Join(dir, "data.key")
	if err := os.WriteFile(key, []byte(k.contentID.Reveal()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range s.Frames {
		stream := run(t, nil, "age", "-d", "-i", key, filepath.Join(dir, string(appendFrameName(nil, i))))
		if got := run(t, stream, "zstd", "-d", "-c", "-q"); !bytes.Equal(got, want[i]) {
			t.Errorf("frame %d: age and zstd give %d bytes, want %d", i, len(got), len(want[i]))
		}
	}
}
