package witness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"tallywood/storage"
)

// maxAlarms bounds the alarms that are kept: a list that gives every log another key is one mishap.
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
	lost int64 // alarms beyond maxAlarms since the start
}

func (w *Witness) alarmKey() string { return "alarms/" + w.signer.name }

// KeyAlarms returns the alarms that lists have raised, acknowledged ones too, the oldest first.
func (w *Witness) KeyAlarms(ctx context.Context) ([]KeyAlarm, error) {
	j, _, err := w.readAlarms(ctx)
	return j.Keys, err
}

func (w *Witness) readAlarms(ctx context.Context) (alarmsJSON, storage.Version, error) {
	var j alarmsJSON
	data, version, err := w.bucket.Get(ctx, w.alarmKey(), storage.Range{})
	if errors.Is(err, fs.ErrNotExist) {
		return j, "", nil
	}
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(data))
		d.DisallowUnknownFields()
		err = d.Decode(&j)
	}
	if err != nil {
		return alarmsJSON{}, "", fmt.Errorf("reading alarms: %w", err)
	}
	w.alarms.mu.Lock()
	defer w.alarms.mu.Unlock()
	w.alarms.read, w.alarms.keys = time.Now(), j.Keys
	return j, version, nil
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
	return w.changeAlarms(ctx, func(keys []KeyAlarm) ([]KeyAlarm, bool) {
		n, lost := len(keys), int64(0)
		for _, f := range fresh {
			known := false
			for _, k := range keys {
				known = known || k.Origin == f.Origin && k.Key == f.Key && k.Source == f.Source
			}
			switch {
			case known:
			case len(keys) >= maxAlarms:
				lost++
			default:
				keys = append(keys, f)
			}
		}
		w.alarms.mu.Lock()
		w.alarms.lost = lost
		w.alarms.mu.Unlock()
		return keys, len(keys) > n
	})
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

// changeAlarms swaps the alarms for what change makes of them, if it says that this is anything else.
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
		next := alarmsJSON{Counter: j.Counter + 1, Instance: w.instance, Keys: keys}
		data, err := json.MarshalIndent(next, "", "  ")
		if err != nil {
			return fmt.Errorf("encoding alarms: %w", err)
		}
		condition := storage.Absent()
		if version != "" {
			condition = storage.Match(version)
		}
		_, err = w.bucket.Put(ctx, w.alarmKey(), append(data, '\n'), putOptions(condition))
		switch {
		case err == nil:
			w.alarms.mu.Lock()
			defer w.alarms.mu.Unlock()
			w.alarms.read, w.alarms.keys = time.Now(), keys
			return nil
		case !errors.Is(err, storage.ErrPrecondition):
			w.endIfUnusable(err)
			return fmt.Errorf("writing alarms: %w", err)
		}
	}
	return errors.New("writing alarms: another process of this witness is busy with them")
}
