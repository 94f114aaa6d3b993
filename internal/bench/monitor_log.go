package bench

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.yaml.in/yaml/v4"

	"tallywood/internal/mint"
)

// Names in the directory of a log for monitors.
const (
	logDir         = "log"             // what is served
	logFile        = "log.json"        // MonitorLog
	policyFile     = "policy.txt"      // that its checkpoints meet
	authorityFile  = "authority.pem"   // the CA of its certificates
	promiserFile   = "ct-key.pem"      // of the certificate log that promised them
	identitiesFile = "identities.yaml" // whom to watch, as in the monitor's configuration
)

// MonitorLogOptions say what log to make for monitors.
type MonitorLogOptions struct {
	Dir     string // where it is not yet
	Kind    mint.Kind
	Entries int64
	Seed    uint64
	Plan    *mint.Plan // what is planted; nil: some of each kind there is
	P384    bool       // the authority signs with P-384, as Sigstore's public one does

	Progress func(done, size int64) // optional
}

// A MonitorLog is a log of certificates or signatures in a directory, for monitors to find in it what
// was planted.
type MonitorLog struct {
	Origin string    `json:"origin"`
	VKey   string    `json:"vkey"`
	Kind   mint.Kind `json:"kind"`
	Size   int64     `json:"size"`
	Root   string    `json:"root"` // hexadecimal
	Seed   uint64    `json:"seed,string"`
	End    time.Time `json:"end"`   // when its checkpoint was cosigned
	Loud   []int64   `json:"loud"`  // entries of which a monitor is to tell, once each
	Quiet  []int64   `json:"quiet"` // planted entries of which it is not
}

// MakeMonitorLog makes a log whose entries are each a certificate of their own, and writes it, with
// all that a monitor needs to follow it, into a directory.
func MakeMonitorLog(ctx context.Context, o MonitorLogOptions) (_ MonitorLog, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("making a log in %s: %w", o.Dir, err)
		}
	}()
	if _, err := os.Stat(filepath.Join(o.Dir, logFile)); !errors.Is(err, fs.ErrNotExist) {
		return MonitorLog{}, errors.New("there is one already, or it cannot be seen")
	}
	if o.Entries < 1 {
		return MonitorLog{}, errors.New("it is to have no entries")
	}
	w, err := mint.New(o.Seed)
	if err != nil {
		return MonitorLog{}, err
	}
	if o.P384 {
		if w.CA, err = w.Authority384("mint"); err != nil {
			return MonitorLog{}, err
		}
	}
	plan := o.Plan
	if plan == nil {
		if plan, err = usualPlan(w, o.Entries); err != nil {
			return MonitorLog{}, err
		}
	}
	planted, loud, err := plan.Place(w, o.Entries)
	if err != nil {
		return MonitorLog{}, err
	}
	l, err := w.Log("log.example.org", o.Kind, mint.Dir(filepath.Join(o.Dir, logDir)))
	if err != nil {
		return MonitorLog{}, err
	}
	f := mint.FillOptions{Entries: o.Entries, Planted: planted, Progress: o.Progress}
	if o.Kind == mint.CT {
		f.Certificates = l
	} else {
		f.Signatures = l
	}
	if err := w.Fill(ctx, f); err != nil {
		return MonitorLog{}, err
	}
	root := l.Root()
	m := MonitorLog{Origin: l.Origin, VKey: l.VKey, Kind: l.Kind, Size: l.Size(), Root: hex.EncodeToString(root[:]),
		Seed: o.Seed, End: f.End(), Loud: []int64{}, Quiet: []int64{}}
	for _, i := range slices.Sorted(maps.Keys(planted)) {
		if loud[i] {
			m.Loud = append(m.Loud, i)
		} else {
			m.Quiet = append(m.Quiet, i)
		}
	}
	return m, m.describe(o.Dir, w, l, plan)
}

// describe writes the files beside the log, that of m last.
func (m MonitorLog) describe(dir string, w *mint.World, l *mint.Log, plan *mint.Plan) error {
	identities, err := yaml.Dump(map[string]*yaml.Node{"identities": &plan.Identities})
	if err != nil {
		return fmt.Errorf("encoding identities: %w", err)
	}
	key, err := x509.MarshalPKIXPublicKey(w.CT.Public())
	if err != nil {
		return fmt.Errorf("encoding key of certificate log: %w", err)
	}
	about, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", logFile, err)
	}
	for _, f := range []struct {
		name string
		data []byte
	}{
		{policyFile, []byte(l.Policy())},
		{authorityFile, w.CA.PEM()},
		{promiserFile, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: key})},
		{identitiesFile, identities},
		{logFile, append(about, '\n')},
	} {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// readMonitorLog reads what describe wrote of the log in dir.
func readMonitorLog(dir string) (m MonitorLog, err error) {
	data, err := os.ReadFile(filepath.Join(dir, logFile))
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		return m, fmt.Errorf("reading what the log is: %w", err)
	}
	return m, nil
}
