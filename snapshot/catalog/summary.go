package catalog

// Summary counts entries.
type Summary struct {
	Files       int64 `json:"files"`
	Directories int64 `json:"directories"`
	Symlinks    int64 `json:"symlinks"`
	Others      int64 `json:"others"`     // fifos and devices
	HardLinks   int64 `json:"hard_links"` // files with more than one name, counted by name
	Bytes       int64 `json:"bytes"`      // sum of the sizes of files, holes included
	DataBytes   int64 `json:"data_bytes"` // the same without holes; hard links count by name
	Changed     int64 `json:"changed"`    // flagged Changed
	Unreadable  int64 `json:"unreadable"` // flagged Unreadable
	Partial     int64 `json:"partial"`    // flagged Partial
}

// Add counts an entry.
func (s *Summary) Add(e *Entry) {
	switch e.Type {
	case File:
		s.Files++
		s.Bytes += e.Size
		s.DataBytes += DataLength(e.Size, e.Data)
		if e.Links > 1 {
			s.HardLinks++
		}
	case Dir:
		s.Directories++
	case Symlink:
		s.Symlinks++
	default:
		s.Others++
	}
	if e.Flags&Changed != 0 {
		s.Changed++
	}
	if e.Flags&Unreadable != 0 {
		s.Unreadable++
	}
	if e.Flags&Partial != 0 {
		s.Partial++
	}
}

// Entries is how many entries have been counted.
func (s *Summary) Entries() int64 { return s.Files + s.Directories + s.Symlinks + s.Others }

// Flagged says whether anything about the entries is less than whole.
func (s *Summary) Flagged() bool { return s.Changed+s.Unreadable+s.Partial > 0 }
