package repo

import "lifeboat/storage/seal"

// Abandon leaves a session as the death of its process does: nothing more is
// said, the journal's lock is free, the state directory stays as it is.
func (s *Session) Abandon() error {
	s.up.close()
	return s.release()
}

// ShrinkBuffers makes packs of the session at most size bytes, so that tests
// need not allocate real ones.
func (s *Session) ShrinkBuffers(size int) {
	for range cap(s.up.buffers) {
		<-s.up.buffers
		s.up.buffers <- make([]byte, 0, size)
	}
}

// OpenSealedManifest opens a manifest as an intent or an object holds it.
func (r *Repo) OpenSealedManifest(sealed []byte) (*Manifest, error) {
	plain, err := openRecord(sealed, r.metaOpener().Open, manifestPlainMax)
	if err != nil {
		return nil, err
	}
	return DecodeManifest(plain, r.id)
}

// IndexOpener opens tables of contents.
func (r *Repo) IndexOpener() func(dst, file []byte) ([]byte, error) {
	return seal.NewOpener(r.keys.Domain.Index).Open
}
