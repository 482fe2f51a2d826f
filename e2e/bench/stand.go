package main

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"lifeboat/e2e/internal/harness"
)

// stand is where a run takes place: a folder, the S3 server and its slow proxy.
// It stands in for a test towards the harness, which serves tests otherwise.
type stand struct {
	testing.TB // nil: only the methods below are used

	dir   string
	keep  bool
	undo  []func()
	temps int
	s3    *harness.S3
	proxy *harness.Proxy
}

// standError is what Fatal panics with.
type standError struct{ error }

func newStand(o *options) (*stand, error) {
	dir, err := o.work, error(nil)
	if dir == "" {
		dir, err = os.MkdirTemp("", "lifeboat-bench-")
	} else if err = os.MkdirAll(dir, 0o755); err == nil {
		dir, err = os.MkdirTemp(dir, "run-")
	}
	return &stand{dir: dir, keep: o.keep}, err
}

// catch turns what Fatal threw into an error.
func (s *stand) catch(err *error) {
	switch thrown := recover().(type) {
	case nil:
	case standError:
		*err = errors.Join(*err, thrown.error)
	default:
		panic(thrown)
	}
}

// close stops the servers and deletes the folder.
func (s *stand) close() error {
	for i := len(s.undo) - 1; i >= 0; i-- {
		s.undo[i]()
	}
	if s.keep {
		fmt.Fprintln(os.Stderr, "bench: everything is left in", s.dir)
		return nil
	}
	return os.RemoveAll(s.dir)
}

// bucket starts the S3 server and the proxy before it, once.
func (s *stand) bucket(o *options) {
	if s.s3 == nil {
		s.s3 = harness.StartS3(s)
		s.proxy = harness.StartProxy(s, s.s3.Endpoint)
		s.proxy.Latency(o.latency)
	}
}

// What the harness asks of a test.

func (s *stand) Helper() {}

func (s *stand) Cleanup(f func()) { s.undo = append(s.undo, f) }

func (s *stand) TempDir() string {
	s.temps++
	dir := fmt.Sprintf("%s/temp-%d", s.dir, s.temps)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.Fatal(err)
	}
	return dir
}

func (s *stand) Fatal(args ...any) { panic(standError{errors.New(fmt.Sprint(args...))}) }

func (s *stand) Fatalf(format string, args ...any) { panic(standError{fmt.Errorf(format, args...)}) }

func (s *stand) Errorf(format string, args ...any) { s.Fatalf(format, args...) }
