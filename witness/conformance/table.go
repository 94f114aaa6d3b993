package conformance

import "context"

// A refusal is a case in which one request must be refused and change nothing. The zero values of
// at and to are a log that was cosigned at 5, and a checkpoint of 8.
type refusal struct {
	id, about string
	level     Level
	rule      Rule
	at        int64 // size that was cosigned; never: nothing was
	old       int64 // if it is not at's
	to        int64 // size of the checkpoint
	edit      func(l *testLog, r *request)
	want      answers
}

const (
	defaultAt = 5
	defaultTo = 8
)

// zero is the old size 0 where at is another one, as 0 stands for "the same".
const zero = -3

func (c refusal) testCase() testCase {
	if c.at == 0 {
		c.at = defaultAt
	}
	if c.to == 0 {
		c.to = defaultTo
	}
	switch c.old {
	case 0:
		c.old = max(c.at, 0)
	case zero:
		c.old = 0
	}
	return testCase{id: c.id, about: c.about, level: c.level, rule: c.rule, run: func(ctx context.Context, t *trial) error {
		l, err := t.at(ctx, c.at)
		if err != nil {
			return err
		}
		r := newRequest(l, min(c.old, c.to), c.to)
		r.first = oldLine(c.old)
		if c.edit != nil {
			c.edit(l, r)
		}
		return t.refuse(ctx, l, r.body(), c.want)
	}}
}

// An acceptance is a case in which one request must be cosigned: by default a checkpoint of the
// same size as before, of a plain log.
type acceptance struct {
	id, about string
	level     Level
	rule      Rule
	kind      Kind  // if not Plain, or if a new log is wanted
	at        int64 // if kind is given: size that was cosigned; never: nothing was
	to        int64 // size of the checkpoint; default: the same
	edit      func(l *testLog, r *request)
}

func (c acceptance) testCase() testCase {
	if c.at == 0 {
		c.at = defaultAt
	}
	if c.to == 0 {
		c.to = max(c.at, 1)
	}
	return testCase{id: c.id, about: c.about, level: c.level, rule: c.rule, run: func(ctx context.Context, t *trial) error {
		var l *testLog
		var err error
		if c.kind == "" {
			l, err = t.at(ctx, c.at)
		} else {
			l, err = t.freshAt(ctx, c.kind, c.at)
		}
		if err != nil {
			return err
		}
		r := newRequest(l, max(c.at, 0), c.to)
		if c.edit != nil {
			c.edit(l, r)
		}
		if c.to != c.at {
			t.drop(l)
		}
		return t.accept(ctx, l, r, c.to)
	}}
}

// A caser makes a case of a line of a table.
type caser interface{ testCase() testCase }

func (c testCase) testCase() testCase { return c }

func table(rows ...caser) []testCase {
	all := make([]testCase, len(rows))
	for i, row := range rows {
		all[i] = row.testCase()
	}
	return all
}

// mangled returns an edit that changes the whole body.
func mangled(f func(body string) string) func(*testLog, *request) {
	return func(_ *testLog, r *request) { r.mangle = f }
}

// instead returns an edit that sends another body.
func instead(body string) func(*testLog, *request) {
	return mangled(func(string) string { return body })
}

// first returns an edit of the first line.
func first(line string) func(*testLog, *request) {
	return func(_ *testLog, r *request) { r.first = line }
}
