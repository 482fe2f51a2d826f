// Package s3test runs a real S3 server for tests: versitygw, or the one that
// LIFEBOAT_S3_SERVER names (minio), built from a nested module below e2e/tools
// and started on a loopback port with a folder of its own. Only tests import it.
// It never skips: without the server a test fails.
package s3test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"lifeboat/storage/s3"
)

// What every server of this package is set up with.
const (
	Bucket    = "lifeboat-test"
	Region    = "us-east-1"
	AccessKey = "test-access-key"
	SecretKey = "test-secret-key"
)

const (
	startTimeout = 30 * time.Second // until the server answers
	buildTimeout = 15 * time.Minute // for the first build on a slow machine
	startTries   = 5                // a port may be taken between choosing and using it
	pollEvery    = 20 * time.Millisecond
	logMax       = 64 << 10 // bytes of the server's output that are kept
)

// Server is a running S3 server with one empty bucket.
type Server struct {
	Endpoint string // http://127.0.0.1:port
	Root     string // the folder whose subfolders are its buckets
}

// Start runs a server until the end of the test.
func Start(t testing.TB) *Server {
	t.Helper()
	name := serverName()
	binary, err := Tool(name)
	if err != nil {
		t.Fatalf("the S3 server for tests: %v", err)
	}
	dir := t.TempDir()
	for _, d := range []string{"root", "sidecar"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for range startTries {
		var s *Server
		if s, err = start(t, name, binary, dir); err == nil {
			return s
		}
	}
	t.Fatalf("start the S3 server for tests: %v", err)
	return nil
}

// Options are those of a client of the bucket.
func (s *Server) Options() s3.Options {
	return s3.Options{
		Endpoint: s.Endpoint, Region: Region, Bucket: Bucket, PathStyle: true,
		AccessKeyID:     func() (string, error) { return AccessKey, nil },
		SecretAccessKey: func() (string, error) { return SecretKey, nil },
	}
}

// Open makes a client for keys under a prefix of the bucket; "" is the whole.
func (s *Server) Open(t testing.TB, prefix string) *s3.Store {
	t.Helper()
	o := s.Options()
	o.Prefix = prefix
	store, err := s3.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// URL is the region's URL, as configurations and command lines take it. Its
// credentials are those of Env.
func (s *Server) URL(prefix string) string {
	return fmt.Sprintf("s3://%s/%s?endpoint=%s&region=%s&path_style=true", Bucket, prefix, s.Endpoint, Region)
}

// Env are the environment variables of a process that uses URL.
func (s *Server) Env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + AccessKey, "AWS_SECRET_ACCESS_KEY=" + SecretKey}
}

func serverName() string {
	if name := os.Getenv("LIFEBOAT_S3_SERVER"); name != "" {
		return name
	}
	return "versitygw"
}

// command is how a server is started that listens at addr and keeps its objects
// in the folder root below dir.
func command(name, binary, addr, dir string) (*exec.Cmd, error) {
	root := filepath.Join(dir, "root")
	switch name {
	case "versitygw":
		cmd := exec.Command(binary, "--keep-alive", "--quiet", "--port", addr, "posix", "--sidecar", filepath.Join(dir, "sidecar"), root)
		cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey, "VGW_REGION="+Region)
		return cmd, nil
	case "minio":
		cmd := exec.Command(binary, "server", "--quiet", "--address", addr, "--console-address", "127.0.0.1:0", "--config-dir", filepath.Join(dir, "config"), root)
		cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+AccessKey, "MINIO_ROOT_PASSWORD="+SecretKey, "MINIO_REGION="+Region, "MINIO_UPDATE=off")
		return cmd, nil
	}
	return nil, fmt.Errorf("LIFEBOAT_S3_SERVER=%s is not a server that tests can start: versitygw, minio", name)
}

// start runs the server once on a port that was free a moment ago.
func start(t testing.TB, name, binary, dir string) (*Server, error) {
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	var log tail
	cmd, err := command(name, binary, addr, dir)
	if err != nil {
		return nil, err
	}
	root := filepath.Join(dir, "root")
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	stop := func() {
		_ = cmd.Process.Kill() // it has nothing to lose
		<-done
	}
	s := &Server{Endpoint: "http://" + addr, Root: root}
	if err := s.ready(t, addr, done); err != nil {
		if !errors.Is(err, errExited) {
			stop()
		}
		return nil, fmt.Errorf("%w; it said: %s", err, log.String())
	}
	t.Cleanup(stop)
	return s, nil
}

var errExited = errors.New("the server ended")

// ready waits for the server and makes the bucket, which proves that it is ours.
func (s *Server) ready(t testing.TB, addr string, done <-chan error) error {
	client, err := minio.New(addr, &minio.Options{
		Creds: credentials.NewStaticV4(AccessKey, SecretKey, ""), Region: Region, MaxRetries: 1,
		Transport: &http.Transport{DisableKeepAlives: true},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if err = client.MakeBucket(ctx, Bucket, minio.MakeBucketOptions{}); err == nil {
			return nil
		}
		select {
		case werr := <-done:
			return fmt.Errorf("%w: %v", errExited, werr)
		case <-ctx.Done():
			return fmt.Errorf("not ready after %v: %w", startTimeout, err)
		case <-tick.C:
		}
	}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// Tool gives the path of a tool of the nested modules below e2e/tools
// (versitygw, age, minio), building it where it is missing. Builds are kept in the folder that
// LIFEBOAT_TEST_BIN names, or in the user's cache.
func Tool(name string) (string, error) {
	dir := os.Getenv("LIFEBOAT_TEST_BIN")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(cache, "lifeboat-test", "bin")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(dir, ".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	binary := filepath.Join(dir, name)
	if _, err := os.Stat(binary); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return binary, err
	}
	return binary, build(dir, name)
}

// build compiles one tool. go install writes its result under another name
// first, so a build that is killed leaves none that looks finished.
func build(dir, name string) error {
	tool, ok := map[string]struct{ pkg, module string }{
		"versitygw": {"github.com/versity/versitygw/cmd/versitygw", "tools"},
		"age":       {"filippo.io/age/cmd/age", "tools"},
		"minio":     {"github.com/minio/minio", "tools/minio"},
	}[name]
	if !ok {
		return fmt.Errorf("no tool is called %s", name)
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "install", tool.pkg)
	cmd.Dir = filepath.Join(root, "e2e", tool.module)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-buildvcs=false", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", tool.pkg, err, out)
	}
	return nil
}

// moduleRoot finds the top of lifeboat's module from a test's folder.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "e2e", "tools", "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("e2e/tools is not above the test's folder")
		}
		dir = parent
	}
}

// lock lets one process at a time build.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil // closing unlocks
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	if extra := t.buf.Len() - logMax; extra > 0 {
		t.buf.Next(extra)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
