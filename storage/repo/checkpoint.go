package repo

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/journal"
)

// A checkpoint is written after so many statements, or after a day with at
// least a few, so that a reader need not list what went before.
const (
	checkpointEvery = 256 // statements
	checkpointFew   = 16  // statements that make a daily one worth its request
	checkpointAge   = 24 * time.Hour
)

// checkpointDue says whether the chain has grown enough.
func (s *Session) checkpointDue() bool {
	grown := s.log.Head.Seq - min(s.chain.Checkpointed, s.log.Head.Seq)
	old := s.opt.Now().UnixNano()-s.chain.CheckpointAt >= int64(checkpointAge)
	return grown >= checkpointEvery || grown >= checkpointFew && old
}

// checkpoint puts a statement that stands for all before it, into each region
// that holds what it stands for. Nothing is removed: a reader that does not find
// it, or does not trust it, reads the statements themselves. A failure costs
// nothing but a longer listing; a checkpoint that left something out would hide
// it, so in any doubt there is none.
func (s *Session) checkpoint(ctx context.Context) {
	if !s.checkpointDue() {
		return
	}
	view, whole := s.ownJournal(ctx)
	if !whole {
		return
	}
	live, kept := view.Carry(s.log.Writer, s.log.Instance)
	head := s.log.Head
	st := journal.Statement{Type: journal.Checkpoint, Writer: s.log.Writer, Instance: s.log.Instance, Seq: head.Seq, Prev: head.Hash, At: s.opt.Now(),
		Head: &head, Live: live, Kept: kept}
	for _, open := range view.OpenIn(s.log.Writer, s.log.Instance) {
		if open != s.id {
			st.OpenSessions = append(st.OpenSessions, open)
		}
	}
	body, shown := sealedBody{}, view.Snapshots()
	for _, l := range live {
		if shown[l.Snapshot] == nil {
			continue // acknowledged nowhere as far as is known
		}
		if sum, err := s.r.summary(ctx, l.Snapshot, shown[l.Snapshot]); err == nil {
			body.Snapshots = append(body.Snapshots, sum)
		}
	}
	var err error
	if st.Body, st.BodyHash, err = sealBody(body, s.metaSeal); err != nil {
		return
	}
	signed, err := journal.Sign(st, s.r.id, s.sign)
	if err != nil {
		return
	}
	var told atomic.Bool
	_ = s.inEach(ctx, func(ctx context.Context, c *claim) error {
		if view.Replaces(c.Nonce, live) && s.sayCheckpoint(ctx, c, signed) == nil {
			told.Store(true)
		}
		return nil
	})
	if told.Load() {
		s.chain.Checkpointed, s.chain.CheckpointAt = head.Seq, s.opt.Now().UnixNano()
	}
}

// inEach is each for what leaves no region out.
func (s *Session) inEach(ctx context.Context, f func(context.Context, *claim) error) error {
	var all []func(context.Context) error
	for _, c := range s.active() {
		all = append(all, func(ctx context.Context) error { return f(ctx, c) })
	}
	return atOnce(ctx, all...)
}

func (s *Session) sayCheckpoint(ctx context.Context, c *claim, st *journal.Signed) error {
	if s.chain.Checkpointed == 0 {
		prefix := storage.CheckpointPrefix(s.log.Writer, s.log.Instance)
		if err := put(ctx, c.Store, storage.SentinelKey(prefix), []byte(storage.Sentinel)); err != nil {
			return err
		}
	}
	return s.say(ctx, c, st)
}

// ownJournal reads what every region of the session holds of this instance now:
// the view of the repository is as old as the run, and another run of this host
// may have used the instance since, or a region gone back in time. whole says
// that no statement up to the head is missing from all regions, so that no
// acknowledgement that was ever attempted is unknown.
func (s *Session) ownJournal(ctx context.Context) (view *journal.View, whole bool) {
	view = journal.NewView()
	var mu sync.Mutex
	seen, covered := map[uint64]bool{}, uint64(0)
	add := func(p *Place, st *journal.Signed) {
		mu.Lock()
		defer mu.Unlock()
		view.Add(p.Nonce, st)
		seen[st.Seq] = true
		if st.Type == journal.Checkpoint {
			covered = max(covered, st.Head.Seq)
		}
	}
	known := newParsed()
	for _, c := range s.active() {
		view.AddRegion(c.Nonce)
	}
	err := s.inEach(ctx, func(ctx context.Context, c *claim) error {
		place := *c.Place // its list of problems is not the one to lengthen here
		return s.r.newLoader(&place, known, add).instance(ctx, s.log.Writer, s.log.Instance)
	})
	if err != nil {
		return nil, false
	}
	for seq := covered + 1; seq <= s.log.Head.Seq; seq++ {
		if !seen[seq] {
			return nil, false
		}
	}
	return view, true
}
