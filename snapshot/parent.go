package snapshot

import (
	"context"

	"lifeboat/storage/repo"
)

// Parent finds the newest snapshot of a workload that every region of the
// session shows, so that its packs may be re-used in all of them.
func Parent(ctx context.Context, r *repo.Repo, s *repo.Session, workload string) (*repo.Snapshot, bool) {
	all, err := r.Snapshots(ctx)
	if err != nil {
		return nil, false
	}
	regions := s.Regions()
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Workload == workload && r.Trust().MayReuse(s.WriterID(), all[i].Writer) && containsAll(all[i].Regions, regions) {
			return &all[i], true
		}
	}
	return nil, false
}

func containsAll(have, want []string) bool {
	set := map[string]bool{}
	for _, h := range have {
		set[h] = true
	}
	for _, w := range want {
		if !set[w] {
			return false
		}
	}
	return true
}
