package journal

// Acks lists the acknowledgements of a snapshot that some region holds.
func (v *View) Acks(snapshot string) []*Signed {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var out []*Signed
	seen := map[[32]byte]bool{}
	for _, r := range v.regions {
		for _, a := range r.acks {
			if names(a.Snapshots, snapshot) && !seen[a.Hash] {
				seen[a.Hash] = true
				out = append(out, a.light())
			}
		}
	}
	return out
}
