package storage

import (
	"context"
	"errors"
	"fmt"
)

// ErrListing says that a listing contradicts itself or lacks its end; nothing
// may be concluded from what it does not show.
var ErrListing = errors.New("listing cannot be trusted")

// ListAll collects what List yields. More than limit entries are an error.
func ListAll(ctx context.Context, s Store, opt ListOptions, limit int) ([]Info, error) {
	var all []Info
	for info, err := range s.List(ctx, opt) {
		if err != nil {
			return nil, err // the store says what it was listing
		}
		if len(all) >= limit {
			return nil, fmt.Errorf("list %s: more than %d objects", opt.Prefix, limit)
		}
		all = append(all, info)
	}
	return all, nil
}

// CheckListing says whether the listing of a whole prefix (which ends in "/")
// is fit for conclusions about what is absent: keys strictly increase, all lie
// under the prefix, and the last is the prefix's sentinel. Otherwise it gives
// ErrListing.
func CheckListing(prefix string, infos []Info) error {
	for i, info := range infos {
		if len(info.Key) < len(prefix) || info.Key[:len(prefix)] != prefix {
			return fmt.Errorf("list %s: %w: it shows %s", prefix, ErrListing, info.Key)
		}
		if i > 0 && info.Key <= infos[i-1].Key {
			return fmt.Errorf("list %s: %w: %s comes after %s", prefix, ErrListing, info.Key, infos[i-1].Key)
		}
	}
	if n := len(infos); n == 0 || infos[n-1].Key != SentinelKey(prefix) {
		return fmt.Errorf("list %s: %w: its end is missing (%d objects seen)", prefix, ErrListing, n)
	}
	return nil
}
