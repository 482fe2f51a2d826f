package index

// scanner reads the entries of tables from front to end, past the cache.
type scanner struct {
	run       *run
	tables    []table // still to come, the current one first
	at        uint32  // entries of the current table that were read
	entry     []byte  // the current one; valid until next
	prefix    uint64  // of entry
	keyLength int     // bytes of entry that a queue sorts by
	buf       []byte
	first     uint32 // block at the front of buf
	have      uint32 // blocks in buf
}

func (s *scanner) start(r *run, t *table) {
	*s = scanner{run: r, tables: append(s.tables[:0], *t), buf: s.buf}
}

// startKeys starts at the first key of the first group.
func (s *scanner) startKeys(r *run) {
	tables := s.tables[:0]
	for i := range r.groups {
		tables = append(tables, r.groups[i].keys)
	}
	*s = scanner{run: r, tables: tables, buf: s.buf}
}

// next reads the next entry; false at the end.
func (s *scanner) next() (bool, error) {
	for len(s.tables) > 0 && s.at >= s.tables[0].count {
		s.tables, s.at = s.tables[1:], 0
	}
	if len(s.tables) == 0 {
		return false, nil
	}
	t := &s.tables[0]
	in := s.at % t.perBlock()
	block := t.first + s.at/t.perBlock()
	if in == 0 || s.have == 0 {
		if err := s.load(t, block); err != nil {
			return false, err
		}
	}
	s.entry = s.buf[(block-s.first)*blockSize+in*t.size:][:t.size]
	if t.size >= 8 {
		s.prefix = prefixOf(s.entry)
	}
	s.at++
	return true, nil
}

// mustNext is next where there has to be one more.
func (s *scanner) mustNext() error {
	ok, err := s.next()
	if err == nil && !ok {
		return s.run.damaged("a table is too short")
	}
	return err
}

// load makes sure that buf has a block of table t.
func (s *scanner) load(t *table, block uint32) error {
	if s.have > 0 && block >= s.first && block < s.first+s.have {
		return nil
	}
	if s.buf == nil {
		s.buf = make([]byte, scanBlocks*blockSize)
	}
	n := min(scanBlocks, t.first+t.blocks()-block)
	s.first, s.have = block, 0
	if err := s.run.readBlocks(s.buf[:n*blockSize], block); err != nil {
		return err
	}
	s.have = n
	return nil
}
