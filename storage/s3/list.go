package s3

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"

	"lifeboat/storage"
)

// pageMax is how many entries a page of a listing may have; it is S3's own limit.
const pageMax = 1000

// List implements storage.Store. Pages that do not follow on each other (a key
// out of order, a token that repeats, a listing cut short without saying so)
// end it with an error.
func (s *Store) List(ctx context.Context, opt storage.ListOptions) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		err := ctx.Err()
		if err == nil {
			err = storage.CheckPrefix(opt.Prefix)
		}
		if err == nil {
			err = s.list(ctx, opt, yield)
		}
		if err != nil {
			yield(storage.Info{}, fmt.Errorf("list %s: %w", opt.Prefix, err))
		}
	}
}

func (s *Store) list(ctx context.Context, opt storage.ListOptions, yield func(storage.Info, error) bool) error {
	// The library's listing takes no context, so the transport brings it.
	core, err := s.newCore(bound{ctx, s.transport})
	if err != nil {
		return err
	}
	after, token := opt.StartAfter, ""
	for {
		var page minio.ListBucketV2Result
		err := s.do(ctx, func() (err error) {
			page, err = s.page(core, opt, token)
			return err
		})
		if err != nil {
			return err
		}
		infos, err := s.merge(page, opt.StartAfter)
		if err != nil {
			return err
		}
		for _, info := range infos {
			if info.Key <= after {
				return storage.Temporary(fmt.Errorf("%w: %s comes after %s", storage.ErrListing, info.Key, after))
			}
			after = info.Key
			if !yield(info, nil) {
				return nil
			}
		}
		if !page.IsTruncated {
			return nil
		}
		if page.NextContinuationToken == token {
			return storage.Temporary(fmt.Errorf("%w: the same page again", storage.ErrListing))
		}
		token = page.NextContinuationToken
	}
}

func (s *Store) page(core *minio.Core, opt storage.ListOptions, token string) (minio.ListBucketV2Result, error) {
	delimiter, after := "", ""
	if opt.Delimited {
		delimiter = "/"
	}
	if opt.StartAfter != "" {
		after = s.prefix + opt.StartAfter
	}
	page, err := core.ListObjectsV2(s.bucket, s.prefix+opt.Prefix, after, token, delimiter, pageMax)
	if err == nil && page.Name == "" {
		err = errGarbage // some other document: an empty listing says which bucket is empty
	}
	return page, err
}

// merge puts the keys and the groups of a page into one order, without the
// region's prefix, and without what sorts up to after: servers differ in
// whether they show a group again that after lies in.
func (s *Store) merge(page minio.ListBucketV2Result, after string) ([]storage.Info, error) {
	infos := make([]storage.Info, 0, len(page.Contents)+len(page.CommonPrefixes))
	objects, groups := page.Contents, page.CommonPrefixes
	for len(objects)+len(groups) > 0 {
		var info storage.Info
		if len(groups) == 0 || len(objects) > 0 && objects[0].Key < groups[0].Prefix {
			o := objects[0]
			info = storage.Info{Key: o.Key, Size: o.Size, ModTime: o.LastModified}
			objects = objects[1:]
		} else {
			info = storage.Info{Key: groups[0].Prefix, Dir: true}
			groups = groups[1:]
		}
		key, ok := strings.CutPrefix(info.Key, s.prefix)
		if !ok {
			return nil, fmt.Errorf("%w: it shows %.100q, outside the prefix", errGarbage, info.Key)
		}
		info.Key = key
		// Folder markers and other people's names are not objects of ours.
		if key > after && storage.CheckPrefix(key) == nil && key != "" && info.Dir == strings.HasSuffix(key, "/") {
			infos = append(infos, info)
		}
	}
	return infos, nil
}

// bound is a transport whose requests end with a context.
type bound struct {
	ctx  context.Context
	next http.RoundTripper
}

func (b bound) RoundTrip(r *http.Request) (*http.Response, error) {
	return b.next.RoundTrip(r.WithContext(b.ctx))
}
