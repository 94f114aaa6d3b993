package rule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // hours are stated in a zone, and small systems know none
)

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// hours are when an identity is used.
type hours struct {
	from, to int // minutes of the day; to may be before from: then they end on the next day
	days     [7]bool
	zone     *time.Location
	text     string
}

// newHours reads the parameters of id.off-hours.
func newHours(p Params) (hours, error) {
	h := hours{to: 24 * 60, zone: time.UTC}
	if p.Hours == "" && len(p.Days) == 0 {
		return h, errors.New(`neither hours nor days, such as "09:00-18:00" and [mon, tue, wed, thu, fri]`)
	}
	var errs []error
	if p.Hours != "" {
		from, to, _ := strings.Cut(p.Hours, "-")
		var ok1, ok2 bool
		h.from, ok1 = minuteOf(from)
		h.to, ok2 = minuteOf(to)
		if !ok1 || !ok2 || h.from == h.to || h.from == 24*60 {
			errs = append(errs, fmt.Errorf(`hours %q are not of the form "09:00-18:00"`, p.Hours))
		}
	}
	for _, name := range p.Days {
		day := slices.Index(weekdays, strings.ToLower(name))
		if day < 0 {
			errs = append(errs, fmt.Errorf("day %q is none of mon, tue, wed, thu, fri, sat, sun", name))
			continue
		}
		h.days[day] = true
	}
	if len(p.Days) == 0 {
		h.days = [7]bool{true, true, true, true, true, true, true}
	}
	if p.Zone != "" {
		zone, err := time.LoadLocation(p.Zone)
		if err != nil || p.Zone == "Local" {
			errs = append(errs, fmt.Errorf("zone %q is no IANA time zone such as Europe/Berlin", p.Zone))
		} else {
			h.zone = zone
		}
	}
	h.text = strings.Join(strings.Fields(strings.Join(p.Days, " ")+" "+p.Hours+" "+h.zone.String()), " ")
	return h, errors.Join(errs...)
}

// minuteOf reads a time of day such as 09:00, or 24:00.
func minuteOf(text string) (int, bool) {
	text = strings.TrimSpace(text)
	if text == "24:00" {
		return 24 * 60, true
	}
	t, err := time.Parse("15:04", text)
	return t.Hour()*60 + t.Minute(), err == nil
}

// holds reports whether t is within the hours. Hours that end on the next day are of the day they
// begin on.
func (h hours) holds(t time.Time) bool {
	t = t.In(h.zone)
	minute := t.Hour()*60 + t.Minute()
	today, yesterday := h.days[t.Weekday()], h.days[(t.Weekday()+6)%7]
	if h.from < h.to {
		return today && minute >= h.from && minute < h.to
	}
	return today && minute >= h.from || yesterday && minute < h.to
}

// newOffHours returns id.off-hours: an entry at another time than is stated. It keeps nothing, and is
// silent on an entry of which the time is not known.
func newOffHours(p Params) (func(*judging), error) {
	h, err := newHours(p)
	if err != nil {
		return nil, err
	}
	return func(j *judging) {
		if !j.exact || h.holds(j.time) {
			return
		}
		at := j.time.In(h.zone).Format("Mon 2006-01-02 15:04 MST")
		j.add(Reason{Rule: IDOffHours, Text: fmt.Sprintf("%s was used on %s, its hours are %s", quoted(j.watch.Name), at, h.text),
			Field: "time", Expected: []string{h.text}, Seen: at})
	}, nil
}
