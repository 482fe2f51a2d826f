package journal

import (
	"cmp"
	"encoding/hex"
	"slices"
)

// keptMax is how many drill statements a checkpoint points at.
const keptMax = 128

// Carry gives what a checkpoint of one writer's instance has to carry on: every
// snapshot for which an acknowledgement was attempted and that is not forgotten
// everywhere, and the newest drills.
func (v *View) Carry(writer, instance string) (live []Live, kept []Ref) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	all := map[string]*Live{}
	for _, r := range v.regions {
		for _, ack := range r.acks {
			v.carryAck(all, ack, writer, instance)
		}
		for _, l := range r.live {
			if l.Intent.Writer == writer && l.Intent.Instance == instance && !v.forgottenEverywhere(writer+l.Snapshot) {
				carry(all, l, l.Regions) // also of regions that are away
			}
		}
	}
	for _, l := range all {
		slices.Sort(l.Regions)
		live = append(live, *l)
	}
	slices.SortFunc(live, func(a, b Live) int {
		return cmp.Or(cmp.Compare(a.Intent.Seq, b.Intent.Seq), cmp.Compare(a.Snapshot, b.Snapshot))
	})
	for _, d := range v.sortedDrills() {
		if d.Writer == writer && d.Instance == instance {
			kept = append(kept, d.Ref())
		}
	}
	return live, kept[max(0, len(kept)-keptMax):]
}

func (v *View) carryAck(all map[string]*Live, ack *Signed, writer, instance string) {
	intent := v.intents[ack.Intent]
	if intent == nil || ack.Writer != writer || intent.Writer != writer || intent.Instance != instance {
		return
	}
	for _, sn := range ack.Snapshots {
		if names(intent.Snapshots, sn.ID) && !v.forgottenEverywhere(writer+sn.ID) {
			carry(all, Live{Snapshot: sn.ID, Intent: intent.Ref(), Session: intent.Session, Seen: ack.Seen}, ack.Regions)
		}
	}
}

func carry(all map[string]*Live, l Live, regions []string) {
	k := l.key()
	if all[k] == nil {
		c := l
		c.Regions = nil
		all[k] = &c
	}
	for _, r := range regions {
		if !slices.Contains(all[k].Regions, r) {
			all[k].Regions = append(all[k].Regions, r)
		}
	}
}

func (l *Live) key() string { return l.Intent.Hash + l.Snapshot }

func (v *View) forgottenEverywhere(id string) bool {
	for _, r := range v.regions {
		if !r.forgot[id] {
			return false
		}
	}
	return len(v.regions) > 0
}

// Replaces reports whether a region itself holds all that a checkpoint would
// stand for there: only then may the checkpoint be put into it.
func (v *View) Replaces(nonce string, live []Live) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	r := v.regions[nonce]
	if r == nil {
		return false
	}
	for _, l := range live {
		if !slices.Contains(l.Regions, nonce) {
			continue
		}
		if _, ok := r.live[l.key()]; ok {
			continue
		}
		acked := slices.ContainsFunc(r.acks, func(a *Signed) bool {
			return a.Intent == l.Intent.Hash && a.Names(nonce) && names(a.Snapshots, l.Snapshot)
		})
		if !r.intents[l.Intent.Hash] || !acked {
			return false
		}
	}
	return true
}

// OpenIn lists the sessions of one instance that have no end.
func (v *View) OpenIn(writer, instance string) []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var out []string
	for s, ref := range v.opens {
		if !v.ends[s] && ref.Writer == writer && ref.Instance == instance {
			out = append(out, s[len(writer):])
		}
	}
	slices.Sort(out)
	return out
}

// HashText is the hexadecimal form of a statement's hash, as references use it.
func (s *Signed) HashText() string { return hex.EncodeToString(s.Hash[:]) }
