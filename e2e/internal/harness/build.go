package harness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const buildTimeout = 15 * time.Minute // for the first build on a slow machine

// Root is the top of the repository.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module lifeboat\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod of module lifeboat above the working directory")
		}
		dir = parent
	}
}

// Binary is the path of the program, built from the present source. With
// LIFEBOAT_BINARY set it is that one.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := BuildBinary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// BuildBinary is Binary for programs that are no tests. The go command's own
// cache makes it cheap when nothing has changed.
func BuildBinary() (string, error) {
	if path := os.Getenv("LIFEBOAT_BINARY"); path != "" {
		return filepath.Abs(path)
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir, unlock, err := toolDir()
	if err != nil {
		return "", err
	}
	defer unlock()
	// The name tells one checkout from another, so that two do not swap programs.
	path := filepath.Join(dir, "lifeboat-"+strings.ReplaceAll(strings.Trim(root, "/"), "/", "-"))
	return path, goBuild(root, "build", "-trimpath", "-o", path, "./cmd/lifeboat")
}

// Tool is the path of a tool of the nested module e2e/tools, built when it is
// missing. Builds are kept in the folder that LIFEBOAT_TEST_BIN names, or in
// the user's cache; they are the same as those of storage/s3/s3test.
func Tool(name string) (string, error) {
	tool, ok := map[string]struct{ pkg, module string }{
		"versitygw":   {"github.com/versity/versitygw/cmd/versitygw", "tools"},
		"age":         {"filippo.io/age/cmd/age", "tools"},
		"staticcheck": {"honnef.co/go/tools/cmd/staticcheck", "tools"},
		"govulncheck": {"golang.org/x/vuln/cmd/govulncheck", "tools"},
		"minio":       {"github.com/minio/minio", "tools/minio"},
	}[name]
	if !ok {
		return "", fmt.Errorf("no tool is called %s", name)
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir, unlock, err := toolDir()
	if err != nil {
		return "", err
	}
	defer unlock()
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	return path, goBuild(filepath.Join(root, "e2e", tool.module), "build", "-o", path, tool.pkg)
}

// goBuild runs the go command for a static program.
func goBuild(dir string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// toolDir is the folder of built programs, locked against other builders.
func toolDir() (dir string, unlock func(), err error) {
	if dir = os.Getenv("LIFEBOAT_TEST_BIN"); dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", nil, err
		}
		dir = filepath.Join(cache, "lifeboat-test", "bin")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return "", nil, errors.Join(err, f.Close())
	}
	return dir, func() { _ = f.Close() }, nil // closing unlocks
}
