package stack

import (
	"fmt"
	"net/http"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/witness"
	"tallywood/witness/policy"
)

// A witnessPart is one witness of this process.
type witnessPart struct {
	cfg     config.Witness
	witness *witness.Witness
	path    string // where it is served
}

// openWitnesses opens the configured witnesses at /witness/1/ and up. Each knows the logs of
// this process, and those of its lists.
func (s *Stack) openWitnesses(mux *http.ServeMux) error {
	known, err := witnessLogs(s.parts())
	if err != nil {
		return fmt.Errorf("opening witnesses: %w", err)
	}
	for i, c := range s.cfg.Witnesses {
		w, err := s.openWitness(c, known)
		if err != nil {
			return fmt.Errorf("opening witness %q: %w", c.Name, err)
		}
		path := fmt.Sprintf("/witness/%d", i+1)
		mux.Handle(path+"/", http.StripPrefix(path, w.Handler()))
		s.witnesses = append(s.witnesses, &witnessPart{cfg: c, witness: w, path: path})
	}
	return nil
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
		known = append(known, witness.Log{Origin: l.cfg.Origin, Keys: []policy.Key{key}})
	}
	return known, nil
}

func (s *Stack) openWitness(c config.Witness, known []witness.Log) (*witness.Witness, error) {
	seed, err := keys.ReadSeed(c.Seed)
	if err != nil {
		return nil, fmt.Errorf("reading seed: %w", err)
	}
	k, err := keys.WitnessFromSeed(c.Name, seed)
	if err != nil {
		return nil, err
	}
	o := witness.Options{Keys: k, Bucket: s.bucket, Logs: known, Log: s.log.With("witness", c.Name)}
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
	return w, nil
}
