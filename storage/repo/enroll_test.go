package repo

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/journal"
	"lifeboat/storage/seal"
	"lifeboat/storage/storetest"
)

// enrolWorld is a repository in two regions whose host is gone.
type enrolWorld struct {
	t       *testing.T
	regions []Region
	faults  []*storetest.Fault
	made    *Created
}

func newEnrolWorld(t *testing.T) *enrolWorld {
	t.Helper()
	w := &enrolWorld{t: t}
	for _, name := range []string{"a", "b"} {
		f := storetest.Faulty(storetest.Memory())
		w.faults = append(w.faults, f)
		w.regions = append(w.regions, Region{Name: name, Store: f})
	}
	second, err := seal.NewIdentity(true)
	if err != nil {
		t.Fatal(err)
	}
	w.made, err = Create(t.Context(), CreateOptions{Regions: w.regions, Classic: true, Recipients: []seal.Recipient{second.Recipient()}, Now: time.Unix(1e9, 0)})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *enrolWorld) open(st *State, ids ...seal.Identity) *Repo {
	w.t.Helper()
	r, err := Open(w.t.Context(), Options{Regions: w.regions, ID: w.made.ID, Root: w.made.Root.Public(), State: st, Identities: ids})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { r.Close() })
	return r
}

func (w *enrolWorld) plan(opt EnrollOptions) *Enrollment {
	w.t.Helper()
	opt.Root, opt.Now = w.made.Root, time.Unix(2e9, 0)
	e, err := w.open(nil, w.made.Operator).PlanEnrollment(w.t.Context(), opt)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func TestEnrolledHostWrites(t *testing.T) {
	w := newEnrolWorld(t)
	old := w.made.Writer.ID
	e := w.plan(EnrollOptions{Predecessors: []string{old}, Disable: true})
	res, err := e.Place(t.Context())
	if err != nil || res[0].State != "committed" || res[1].State != "committed" {
		t.Fatalf("place: %v, %+v", err, res)
	}
	dir := filepath.Join(t.TempDir(), "state")
	st, err := e.Save(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	r := w.open(st)
	tr := r.Trust()
	self, ok := tr.Enrolled(st.Writer())
	if tr.Seq != 2 || len(tr.Writers) != 2 || !ok || !tr.MayReuse(st.Writer(), old) || self.Disabled {
		t.Errorf("trust = %+v", tr)
	}
	if was, _ := tr.Enrolled(old); !was.Disabled {
		t.Error("the old writer may still write")
	}
	s, err := r.Begin(t.Context(), SessionOptions{Required: 2, Now: time.Now})
	if err != nil {
		t.Fatalf("the new writer cannot begin: %v", err)
	}
	if err := s.End(t.Context(), true); err != nil {
		t.Error(err)
	}
	first, err := SaveState(t.TempDir(), w.made.ID, w.made.Root.Public(), w.made.Writer, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.open(first).Begin(t.Context(), SessionOptions{Now: time.Now}); !errors.Is(err, ErrNotWriter) {
		t.Errorf("the disabled writer began: %v", err)
	}
	w.checkKeys(dir, st, self)
}

// checkKeys looks at what the enrolled host can open, and who can open its names.
func (w *enrolWorld) checkKeys(dir string, st *State, self journal.Enrolled) {
	t := w.t
	k := &Keys{}
	if err := st.addOlderKeys(k); err != nil || len(k.meta) != 1 || k.meta[0].Recipient().String() != w.made.Writer.Meta.Recipient().String() {
		t.Errorf("older keys: %d, %v", len(k.meta), err)
	}
	op := w.open(nil, w.made.Operator)
	if !op.Opens(self.Meta) || !op.Opens(w.made.Data.Recipient().String()) || !op.Opens(op.Trust().Domain.Index) {
		t.Error("the operator cannot open everything")
	}
	for _, f := range w.faults {
		infos, err := storage.ListAll(t.Context(), f, storage.ListOptions{Prefix: storage.WrapPrefix(writerKeyPrefix + st.Writer())}, 10)
		if err != nil || len(infos) != 2 {
			t.Errorf("the meta key is wrapped for %d operators, %v", len(infos), err)
		}
	}
	path, ok := st.DataIdentityPath()
	data, err := os.ReadFile(path)
	if err != nil || !ok || !strings.Contains(string(data), w.made.Data.Reveal()) {
		t.Errorf("data identity: %v", err)
	}
	for _, name := range []string{stateName, dataName, olderName} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestEnrolLineage(t *testing.T) {
	tr := &journal.Trust{Writers: []journal.Enrolled{{ID: "1"}, {ID: "2", Predecessors: []string{"1"}}, {ID: "3", Predecessors: []string{"2", "3"}}, {ID: "4"}}}
	for _, tt := range []struct {
		seeds, want []string
	}{{nil, nil}, {[]string{"4"}, []string{"4"}}, {[]string{"3"}, []string{"1", "2", "3"}}, {[]string{"4", "2"}, []string{"1", "2", "4"}}} {
		got, err := lineage(tr, tt.seeds)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("lineage of %v = %v, %v; want %v", tt.seeds, got, err, tt.want)
		}
	}
	if _, err := lineage(tr, []string{"9"}); !errors.Is(err, ErrNoWriter) {
		t.Errorf("unknown writer: %v", err)
	}
}

func TestEnrolRefuses(t *testing.T) {
	w := newEnrolWorld(t)
	other, err := seal.NewRootKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.open(nil, w.made.Operator).PlanEnrollment(t.Context(), EnrollOptions{Root: other}); !errors.Is(err, ErrWrongRoot) {
		t.Errorf("another root key: %v", err)
	}
	for _, r := range []*Repo{w.open(nil), w.open(nil, w.made.Data)} {
		if _, err := r.PlanEnrollment(t.Context(), EnrollOptions{Root: w.made.Root}); !errors.Is(err, ErrNoKey) {
			t.Errorf("without an operator's identity: %v", err)
		}
	}
	if _, err := w.open(nil, w.made.Operator).PlanEnrollment(t.Context(), EnrollOptions{Root: w.made.Root, Predecessors: []string{"beef"}}); !errors.Is(err, ErrNoWriter) {
		t.Errorf("an unknown predecessor: %v", err)
	}
}

func TestEnrolInOneRegionOfTwo(t *testing.T) {
	w := newEnrolWorld(t)
	e := w.plan(EnrollOptions{})
	w.faults[1].On(storetest.Put, "").Fail(storage.ErrUnreachable)
	w.faults[1].On(storetest.List, "").Fail(storage.ErrUnreachable)
	res, err := e.Place(t.Context())
	if err != nil || res[0].State != "committed" || res[1].State != "failed" || !strings.Contains(res[1].Error, "region b") {
		t.Fatalf("place: %v, %+v", err, res)
	}
	st, err := e.Save(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	w.faults[1].Heal()
	if r := w.open(st); r.Trust().Seq != 2 {
		t.Errorf("trust statement %d", r.Trust().Seq)
	}
	w.faults[0].On(storetest.Get, "").Fail(storage.ErrUnreachable)
	alone, err := Open(t.Context(), Options{Regions: w.regions, State: st})
	if err != nil {
		t.Fatalf("the region that missed the enrolment, alone, must still be read: %v", err)
	}
	defer alone.Close()
	if _, err := alone.Begin(t.Context(), SessionOptions{Required: 1, Now: time.Now}); err == nil || !strings.Contains(err.Error(), "back in time") {
		t.Errorf("but not written: %v", err)
	}

	w.faults[0].Heal()
	for _, f := range w.faults {
		f.On(storetest.Put, "trust/").Fail(storage.ErrReadOnly)
	}
	if _, err := w.plan(EnrollOptions{}).Place(t.Context()); !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("no region took it: %v", err)
	}
}

func TestEnrolRace(t *testing.T) {
	w := newEnrolWorld(t)
	first, second, late := w.plan(EnrollOptions{}), w.plan(EnrollOptions{}), w.open(nil, w.made.Operator)
	if _, err := first.Place(t.Context()); err != nil {
		t.Fatal(err)
	}
	res, err := second.Place(t.Context())
	if !errors.Is(err, ErrTrustRace) || !strings.Contains(err.Error(), first.trustKey()) {
		t.Fatalf("second: %v", err)
	}
	if res[0].State != "failed" {
		t.Errorf("result: %+v", res)
	}
	if r := w.open(nil, w.made.Operator); r.Trust().Seq != 2 || r.Trust().Writers[1].ID != first.Writer {
		t.Errorf("after the race: %+v", r.Trust())
	}
	if _, err := late.PlanEnrollment(t.Context(), EnrollOptions{Root: w.made.Root}); !errors.Is(err, ErrTrustRace) {
		t.Errorf("planning on an old statement: %v", err)
	}

	third, fourth := w.plan(EnrollOptions{}), w.plan(EnrollOptions{})
	if _, err := third.Place(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.faults[0].On(storetest.Delete, "trust/").Fail(storage.ErrDenied)
	_, err = fourth.Place(t.Context())
	if err == nil || !strings.Contains(err.Error(), fourth.trustKey()+" could not be withdrawn") {
		t.Errorf("withdrawal that fails: %v", err)
	}
}

func TestSetAside(t *testing.T) {
	w := newEnrolWorld(t)
	dir := t.TempDir()
	if to, err := SetAside(dir, "old"); to != "" || err != nil {
		t.Errorf("nothing to move: %q, %v", to, err)
	}
	st, err := SaveState(dir, w.made.ID, w.made.Root.Public(), w.made.Writer, &w.made.Data)
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.open(st).Begin(t.Context(), SessionOptions{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := SetAside(dir, "old"); !errors.Is(err, ErrInUse) {
		t.Errorf("with a session open: %v", err)
	}
	if err := s.End(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	e := w.plan(EnrollOptions{})
	if _, err := e.Save(dir, false); err == nil {
		t.Error("another writer's state was written over")
	}
	to, err := SetAside(dir, "old")
	if err != nil || to != filepath.Join(dir, "old") {
		t.Fatalf("%q, %v", to, err)
	}
	if moved, err := LoadState(to); err != nil || moved.Writer() != w.made.Writer.ID {
		t.Errorf("moved state: %v", err)
	}
	if _, err := LoadState(dir); !errors.Is(err, ErrNoState) {
		t.Errorf("left behind: %v", err)
	}
	if _, err := e.Save(dir, false); err != nil {
		t.Error(err)
	}
	if to, err := SetAside(dir, "old"); err != nil || to != filepath.Join(dir, "old-2") {
		t.Errorf("a second time: %q, %v", to, err)
	}
}
