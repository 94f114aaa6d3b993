package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
)

// MonitorPages is the pages that the monitor writes for people.
type MonitorPages struct {
	// Directory that they are written to; for them alone. Any web server may serve it, or a bucket.
	Dir string `yaml:"dir"`
	// URL at which readers get that directory; alerts then link to their pages. Default: alerts link to
	// none; of a server that runs the monitor: /monitor/ below its url.
	URL string `yaml:"url,omitempty"`
	// File with the IDs of alerts that have been dealt with, one a line, which the first page then
	// does not name any more. Default: handled.txt below the state.
	Handled string `yaml:"handled,omitempty"`
	// How many alerts have pages. Default: 500.
	Alerts int `yaml:"alerts,omitempty"`
}

// PagesSink is the name below which the pages take events; with pages it is no sink's of notify.
const PagesSink = "pages"

// pagesURL is what may be the URL of pages: nothing in it has a meaning in the forms of messages.
var pagesURL = regexp.MustCompile(`^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/([A-Za-z0-9._~/-]|%[0-9A-Fa-f]{2})*)?$`)

func (m *Monitor) checkPages() error {
	if m.Pages == nil {
		return nil
	}
	var errs []error
	if m.Pages.Dir == "" {
		errs = append(errs, errors.New("pages: dir is missing"))
	}
	if m.Pages.URL != "" && !pagesURL.MatchString(m.Pages.URL) {
		errs = append(errs, fmt.Errorf("pages: url %q is not that of a directory: want https:// or http://, a host, and a path of letters, digits and -._~%%/", m.Pages.URL))
	}
	if m.Pages.Alerts < 0 {
		errs = append(errs, errors.New("pages: alerts is negative"))
	}
	if _, ok := m.Notify[PagesSink]; ok {
		errs = append(errs, errors.New(`notify "pages": that name is taken by the pages section; call the sink otherwise`))
	}
	return errors.Join(errs...)
}

func (m *Monitor) resolvePages() error {
	if m.Pages == nil {
		return nil
	}
	m.Pages.Dir = resolve(m.Dir, m.Pages.Dir)
	if m.Pages.Handled == "" {
		m.Pages.Handled = filepath.Join(m.State, "handled.txt")
	}
	m.Pages.Handled = resolve(m.Dir, m.Pages.Handled)
	for _, inside := range []string{m.State, m.Evidence} {
		if rel, err := filepath.Rel(m.Pages.Dir, inside); err == nil && filepath.IsLocal(rel) {
			return errors.New("pages: dir holds the monitor's state or evidence, which are private; pages need a directory of their own")
		}
	}
	return nil
}
