package rule

import (
	"errors"
	"fmt"
)

// remember sets the rules that judge a match by when it was logged and what was there before.
func (w *watch) remember() error {
	var errs []error
	w.remembers = nil
	for _, r := range []struct {
		id  ID
		new func(Params) (func(*judging), error)
	}{
		{EntryOutsideCert, always(outsideValidity)},
		{EntryDuplicate, always(duplicate)},
		{IDFanOut, newFanOut},
		{IDBurst, newBurst},
		{IDRefDrift, always(refDrift)},
		{IDNewKey, always(newKey)},
		{IDKeyReuse, always(keyReuse)},
		{IDVisibilityChange, always(visibilityChange)},
		{IDFirstUse, newFirstUse},
		{IDOffHours, newOffHours},
	} {
		p, on := w.rule(r.id)
		if !on {
			continue
		}
		judge, err := r.new(p)
		if err != nil {
			errs = append(errs, fmt.Errorf("rule %q: %w", r.id, err))
			continue
		}
		w.remembers = append(w.remembers, judge)
	}
	_, unused := w.rule(XCertWithoutEntry)
	_, unlogged := w.rule(XEntryWithoutCert)
	audit, audited := w.rule(XIssuedUnexplained)
	w.crossed = unused || unlogged
	if w.crossed || audited {
		w.remembers = append(w.remembers, newCrossing(w))
	}
	if audited && audit.File == "" {
		errs = append(errs, fmt.Errorf("rule %q: no file, which would be the CA's record of what it issued", XIssuedUnexplained))
	}
	return errors.Join(errs...)
}

func always(judge func(*judging)) func(Params) (func(*judging), error) {
	return func(Params) (func(*judging), error) { return judge, nil }
}
