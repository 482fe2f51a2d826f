package storetest_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"testing"

	"lifeboat/storage"
	"lifeboat/storage/storetest"
)

var errTest = errors.New("as told")

func TestRules(t *testing.T) {
	mem := storetest.Memory()
	f := storetest.Faulty(mem)
	put := func(key string) error {
		return f.Put(t.Context(), key, []byte("0123456789"), sha256.Sum256([]byte("0123456789")))
	}
	rule := f.On(storetest.Put, "packs/").After(2).Times(2).Fail(errTest)
	var got []bool
	for _, key := range []string{"packs/1", "index/1", "packs/2", "packs/3", "packs/4", "packs/5"} {
		got = append(got, put(key) == nil)
	}
	want := []bool{true, true, true, false, false, true}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("put %d: %v", i, got[i])
		}
	}
	if rule.Hits() != 2 {
		t.Errorf("%d hits", rule.Hits())
	}

	f.On(storetest.Put, "torn").Tear(0.3)
	if err := put("torn"); !storage.IsTemporary(err) || string(mem.Bytes("torn")) != "012" {
		t.Errorf("torn: %q, %v", mem.Bytes("torn"), err)
	}
	f.On(storetest.Put, "rot").Corrupt(storetest.FlipBit(0))
	if err := put("rot"); err != nil || string(mem.Bytes("rot")) != "1123456789" {
		t.Errorf("rot: %q, %v", mem.Bytes("rot"), err)
	}
	f.On(storetest.Get, "packs/1").Corrupt(storetest.FlipBit(8))
	body, _, err := f.Get(t.Context(), "packs/1", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(body); err != nil || string(data) != "0023456789" {
		t.Errorf("get: %q, %v", data, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.On(storetest.Stat, "").Hang()
	cancel()
	if _, err := f.Stat(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("hang: %v", err)
	}
}

func TestCrashing(t *testing.T) {
	for _, lands := range []bool{false, true} {
		mem := storetest.Memory()
		c := storetest.Crashing(mem, 3, lands)
		var errs []error
		for _, key := range []string{"a", "b", "c", "d"} {
			errs = append(errs, c.Put(t.Context(), key, nil, sha256.Sum256(nil)))
		}
		if errs[0] != nil || errs[1] != nil || errs[2] != storetest.ErrCrashed || errs[3] != storetest.ErrCrashed {
			t.Errorf("%v", errs)
		}
		want := 2
		if lands {
			want = 3
		}
		if got := len(mem.Keys("")); got != want || !c.Crashed() || c.Calls() != 4 {
			t.Errorf("lands %v: %d objects after %d calls", lands, got, c.Calls())
		}
	}
}

func TestClone(t *testing.T) {
	mem := storetest.Memory()
	storetest.MustPut(t, mem, "k", []byte("x"))
	other := mem.Clone()
	mem.Change("k", func([]byte) []byte { return []byte("changed") })
	if string(other.Bytes("k")) != "x" || string(mem.Bytes("k")) != "changed" || other.Bytes("none") != nil {
		t.Errorf("%q, %q", other.Bytes("k"), mem.Bytes("k"))
	}
}
