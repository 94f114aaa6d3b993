package stack

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/storage"
	"tallywood/witness"
	"tallywood/witness/policy"
)

// A witnessPart is one witness of this process.
type witnessPart struct {
	cfg     config.Witness
	witness *witness.Witness
	keys    []keys.Witness
	path    string // where it is served
}

// openWitnesses opens the configured witnesses at /witness/1/ and up. Each knows the logs of
// this process, those of its peers, and those of its lists.
func (s *Stack) openWitnesses(mux *http.ServeMux) error {
	known, err := knownLogs(s.cfg, s.parts())
	if err != nil {
		return fmt.Errorf("opening witnesses: %w", err)
	}
	for i, c := range s.cfg.Witnesses {
		part, err := s.openWitness(c, known)
		if err != nil {
			return fmt.Errorf("opening witness %q: %w", c.Name, err)
		}
		part.path = fmt.Sprintf("/witness/%d", i+1)
		mux.Handle(part.path+"/", http.StripPrefix(part.path, part.witness.Handler()))
		s.witnesses = append(s.witnesses, part)
	}
	return nil
}

// knownLogs are the logs that every witness of c knows from the start: those of this process, and those
// of its peers.
func knownLogs(c *config.Config, logs []*logPart) ([]witness.Log, error) {
	known, err := witnessLogs(logs)
	if err != nil {
		return nil, err
	}
	theirs, err := peerLogs(c)
	return append(known, theirs...), err
}

// witnessLogs are the logs as witnesses know them.
func witnessLogs(logs []*logPart) ([]witness.Log, error) {
	var known []witness.Log
	for _, l := range logs {
		if l.vkey == "" { // only checked
			continue
		}
		key, err := policy.ParseVKey(l.vkey)
		if err != nil {
			return nil, err
		}
		known = append(known, witness.Log{Origin: l.cfg.Origin, Keys: []policy.Key{key}, Source: "this server"})
	}
	return known, nil
}

func (s *Stack) openWitness(c config.Witness, known []witness.Log) (*witnessPart, error) {
	o, err := s.witnessKeys(c)
	if err != nil {
		return nil, err
	}
	o.Bucket, o.Logs, o.Log = s.bucket, known, s.log.With("witness", c.Name)
	if o.Export, err = s.openExport(c.Export); err != nil {
		return nil, err
	}
	if s.dev {
		o.About = "A witness for development, in one process with the log it watches: it is not independent."
	}
	w, err := witness.New(o)
	if err != nil {
		return nil, err
	}
	// They run the witness, too, and end the stack when it can keep no state any more: so also one
	// without lists has them.
	lists, err := witness.NewLists(witness.ListsOptions{Witness: w, URLs: c.Lists})
	if err != nil {
		return nil, err
	}
	s.lists = append(s.lists, lists)
	return &witnessPart{cfg: c, witness: w, keys: append([]keys.Witness{o.Keys}, o.Rotation...)}, nil
}

// vkeys returns the vkeys of the keys that sign at a time: those of Ed25519 first, and of them those first
// that sign longest. A peer takes the first, and the one that is about to be replaced would soon be of no use.
func (p *witnessPart) vkeys(at time.Time) []string {
	signing := slices.DeleteFunc(slices.Clone(p.keys), func(k keys.Witness) bool { return !k.Signs(at) })
	slices.SortStableFunc(signing, func(a, b keys.Witness) int {
		switch ends := b.NotAfter.Compare(a.NotAfter); {
		case a.NotAfter.IsZero() != b.NotAfter.IsZero():
			return -ends // the zero time is no end
		case ends != 0:
			return ends
		}
		return b.NotBefore.Compare(a.NotBefore)
	})
	var ed25519, others []string
	for _, k := range signing {
		all := k.VKeys()
		switch {
		case k.Ed25519 != nil:
			ed25519, others = append(ed25519, all[0]), append(others, all[1:]...)
		default:
			others = append(others, all...)
		}
	}
	return append(ed25519, others...)
}

// openExport opens where a witness publishes, unless the configuration is only checked.
func (s *Stack) openExport(location string) (storage.Bucket, error) {
	if _, checking := s.bucket.(unopened); checking || location == "" {
		return nil, nil
	}
	b, err := OpenBucket(context.Background(), location)
	if err != nil {
		return nil, fmt.Errorf("opening export: %w", err)
	}
	return b, nil
}

// restoreLists makes known what the lists of the witnesses have named before.
func (s *Stack) restoreLists(ctx context.Context) error {
	for i, l := range s.lists {
		if err := l.Restore(ctx); err != nil {
			return fmt.Errorf("opening witness %q: %w", s.cfg.Witnesses[i].Name, err)
		}
	}
	return nil
}
