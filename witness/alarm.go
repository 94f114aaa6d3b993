package witness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"tallywood/storage"
)

// maxAlarms bounds the alarms that are kept: a list that gives every log another key is one mishap. Room
// for others is made of acknowledged ones, which are raised again if their list still says the same then.
const maxAlarms = 1000

// alarmAge is how old what a process knows of alarms may be; another one may acknowledge them.
const alarmAge = 2 * time.Second

// A KeyAlarm says that a list has named another key for a log than those it is known under. It is
// raised until the operator has acknowledged it.
type KeyAlarm struct {
	Origin       string     `json:"origin"`
	Key          string     `json:"vkey"`   // that the list named
	Source       string     `json:"source"` // the list
	Time         time.Time  `json:"time"`
	Acknowledged *time.Time `json:"acknowledged,omitempty"`
}

// alarmsJSON is how the alarms are stored. The counter keeps versions unique.
type alarmsJSON struct {
	Counter  uint64     `json:"counter"`
	Instance string     `json:"instance"`
	Keys     []KeyAlarm `json:"keys"`
}

// An alarmBook is what this process last read of the alarms.
type alarmBook struct {
	mu   sync.Mutex // guards the fields below
	read time.Time  // zero: never
	keys []KeyAlarm
}

func (w *Witness) alarmKey() string { return "alarms/" + w.signer.name }

// KeyAlarms returns the alarms that lists have raised, acknowledged ones too, the oldest first.
func (w *Witness) KeyAlarms(ctx context.Context) ([]KeyAlarm, error) {
	j, _, err := w.readAlarms(ctx)
	return j.Keys, err
}

func (w *Witness) readAlarms(ctx context.Context) (alarmsJSON, storage.Version, error) {
	data, version, err := w.bucket.Get(ctx, w.alarmKey(), storage.Range{})
	if errors.Is(err, fs.ErrNotExist) {
		return alarmsJSON{}, "", nil
	}
	var j alarmsJSON
	if err == nil {
		j, err = decodeAlarms(data)
	}
	if err != nil {
		return alarmsJSON{}, "", fmt.Errorf("reading alarms: %w", err)
	}
	w.alarms.set(slices.Clone(j.Keys)) // the caller may change his
	return j, version, nil
}

// decodeAlarms decodes the alarms strictly: what this witness did not write is damage.
func decodeAlarms(data []byte) (alarmsJSON, error) {
	var j alarmsJSON
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return alarmsJSON{}, fmt.Errorf("decoding: %w", err)
	}
	switch {
	case len(bytes.TrimSpace(data[d.InputOffset():])) > 0:
		return alarmsJSON{}, errors.New("decoding: something follows them")
	case len(j.Keys) > maxAlarms:
		return alarmsJSON{}, fmt.Errorf("decoding: %d alarms, more than %d", len(j.Keys), maxAlarms)
	}
	for i, a := range j.Keys {
		if a.Origin == "" || a.Key == "" || a.Time.IsZero() {
			return alarmsJSON{}, fmt.Errorf("decoding: alarm %d has no origin, no key or no time", i+1)
		}
	}
	return j, nil
}

func (j alarmsJSON) encode() ([]byte, error) {
	data, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding alarms: %w", err)
	}
	return append(data, '\n'), nil
}

// set notes what the alarms are now. They must not be changed any more.
func (b *alarmBook) set(keys []KeyAlarm) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read, b.keys = time.Now(), keys
}

// raised returns the alarms that nobody has acknowledged, as they were a moment ago.
func (w *Witness) raised(ctx context.Context) []KeyAlarm {
	w.alarms.mu.Lock()
	old := time.Since(w.alarms.read) > alarmAge
	w.alarms.mu.Unlock()
	if old {
		if _, _, err := w.readAlarms(ctx); err != nil && ctx.Err() == nil {
			w.metrics.stateErrors.Add(1)
			w.log.Error("reading alarms", "err", err)
		}
	}
	w.alarms.mu.Lock()
	defer w.alarms.mu.Unlock()
	var out []KeyAlarm
	for _, a := range w.alarms.keys {
		if a.Acknowledged == nil {
			out = append(out, a)
		}
	}
	return out
}

// raiseAlarms keeps those of the changes that are alarms, once each.
func (w *Witness) raiseAlarms(ctx context.Context, source string, changes []Change) error {
	var fresh []KeyAlarm
	for _, c := range changes {
		if c.Kind == ChangeKey {
			fresh = append(fresh, KeyAlarm{Origin: c.Origin, Key: c.Key, Source: source, Time: w.now().UTC().Truncate(time.Second)})
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	lost := 0
	err := w.changeAlarms(ctx, func(keys []KeyAlarm) ([]KeyAlarm, bool) {
		changed := false
		lost = 0
		for _, f := range fresh {
			known := slices.ContainsFunc(keys, func(k KeyAlarm) bool { return k.Origin == f.Origin && k.Key == f.Key && k.Source == f.Source })
			if known {
				continue
			}
			if len(keys) >= maxAlarms { // of those that were seen the oldest has to go
				i := slices.IndexFunc(keys, func(k KeyAlarm) bool { return k.Acknowledged != nil })
				if i < 0 {
					lost++
					continue
				}
				keys = slices.Delete(keys, i, i+1)
			}
			keys, changed = append(keys, f), true
		}
		return keys, changed
	})
	if err == nil && lost > 0 {
		w.log.Error("more alarms than are kept; acknowledge those that are there", "key", source, "size", lost)
	}
	return err
}

// AcknowledgeKeys notes that the operator has seen the alarms of a log: they are raised no more, also
// while the list still names those keys. It returns how many there were.
func (w *Witness) AcknowledgeKeys(ctx context.Context, origin string) (n int, err error) {
	now := w.now().UTC().Truncate(time.Second)
	err = w.changeAlarms(ctx, func(keys []KeyAlarm) ([]KeyAlarm, bool) {
		n = 0
		for i := range keys {
			if keys[i].Origin == origin && keys[i].Acknowledged == nil {
				keys[i].Acknowledged = &now
				n++
			}
		}
		return keys, n > 0
	})
	return n, err
}

// changeAlarms swaps the alarms for what change makes of them, in place or not, if it says that this is
// anything else.
func (w *Witness) changeAlarms(ctx context.Context, change func([]KeyAlarm) ([]KeyAlarm, bool)) error {
	for range maxSwaps {
		j, version, err := w.readAlarms(ctx)
		if err != nil {
			return err
		}
		keys, changed := change(j.Keys)
		if !changed {
			return nil
		}
		data, err := alarmsJSON{Counter: j.Counter + 1, Instance: w.instance, Keys: keys}.encode()
		if err != nil {
			return err
		}
		condition := storage.Absent()
		if version != "" {
			condition = storage.Match(version)
		}
		_, err = w.bucket.Put(ctx, w.alarmKey(), data, putOptions(condition))
		switch {
		case err == nil:
			w.alarms.set(keys)
			return nil
		case !errors.Is(err, storage.ErrPrecondition):
			w.endIfUnusable(err)
			return fmt.Errorf("writing alarms: %w", err)
		}
	}
	return errors.New("writing alarms: another process of this witness is busy with them")
}
