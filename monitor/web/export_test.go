package web

import "tallywood/monitor/rule"

// What tests look at.
var (
	Visible  = visible
	FileName = fileName
	CopyName = copyName
	Security = security
	Count    = count
)

// A Guide is a guide that tests can look into.
type Guide struct {
	Headline, Fires, Example, Detail string
	Mine, Foreign                    []string
}

// GuideOf returns the guide of a rule.
func GuideOf(id rule.ID) Guide {
	g := guideOf(id)
	return Guide{g.headline, g.fires, g.example, details[id], g.mine, g.foreign}
}

// Anchor is anchor.
var Anchor = anchor
