package duplicates

// SetSizes makes n how many records are in memory before they are a run, and f how many runs are
// merged, until restore.
func SetSizes(n, f int) (restore func()) {
	oldN, oldF := runRecords, fan
	runRecords, fan = n, f
	return func() { runRecords, fan = oldN, oldF }
}

// Tiers returns how many runs there are of each tier.
func Tiers(x *Index) map[int]int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n := make(map[int]int)
	for _, r := range x.runs {
		n[r.tier]++
	}
	return n
}

// ReadRun looks key up in a run in the file at path.
func ReadRun(path string, key [32]byte) (Record, bool, error) {
	r, err := openRun(path, "run", 0)
	if err != nil {
		return Record{}, false, err
	}
	defer r.file.Close()
	return r.get(&key)
}

// ReadJournal returns how many records the file at path has, and the last progress.
func ReadJournal(path string, seed uint32) (n int, p Progress, err error) {
	j, err := openJournal(path, "journal", seed, func(records []Record, at Progress) {
		n += len(records)
		p = at
	})
	if err != nil {
		return 0, p, err
	}
	return n, p, j.file.Close()
}

// FilterPasses returns how many of the keys pass a filter of others.
func FilterPasses(others, keys [][32]byte) (n int) {
	f := newFilter(int64(len(others)))
	for _, key := range others {
		f.add(&key)
	}
	for _, key := range keys {
		if f.mayHave(&key) {
			n++
		}
	}
	return n
}
