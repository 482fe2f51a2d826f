package repo

import (
	"context"

	"lifeboat/storage/journal"
)

// acknowledgeAgain makes a region show a snapshot of which it lacks nothing but
// the acknowledgement: the run that put it was killed on its way from region to
// region, or is on its way now. The acknowledgement names the region, so its
// writer had looked at the packs there after the intent had landed; anybody may
// copy it (docs/design.md, rule 8).
func (s *Session) acknowledgeAgain(ctx context.Context, c *claim, sn Snapshot) bool {
	view := s.r.View()
	for _, ack := range view.Acks(sn.Summary.ID) {
		intent, ok := view.Intent(ack.Intent)
		if !ok || !ack.Names(c.Nonce) || !view.Holds(c.Nonce, ack.Intent) {
			continue
		}
		key, err := ack.Key()
		if err != nil {
			continue
		}
		if ack.Bytes, err = s.r.anyObject(ctx, key, journal.StatementMax); err != nil {
			continue
		}
		if err := s.say(ctx, c, ack); err != nil {
			continue
		}
		view.Add(c.Nonce, ack)
		sn.Intents[c.Nonce] = intent.Ref()
		return true
	}
	return false
}
