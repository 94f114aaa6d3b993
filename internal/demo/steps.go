package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sigstore/sigstore-go/pkg/root"

	"tallywood/log/verify"
	"tallywood/monitor"
	"tallywood/monitor/rule"
)

// sign is step 1: what should happen.
func (s *stage) sign(ctx context.Context, t *teller) error {
	t.tried("Alice signs program.sh with her login. Bob and Carol sign something of theirs.")
	var err error
	if s.program, err = s.file("program.sh", "echo 'the real thing'\n"); err != nil {
		return err
	}
	var result *verify.Result
	if s.bundle, result, err = s.signFile(ctx, s.program, s.aliceLogin(), alice, s.signing, false); err != nil {
		return err
	}
	t.happened("Her login became a certificate that is valid for ten minutes, and her signature is line %d of the log. %s have countersigned the log's summary, with that line in it.",
		result.Index, and(result.Witnesses))
	for _, other := range []string{"bob", "carol"} {
		if other == "carol" { // the old summary that step 4 needs: it lacks what Carol signed
			if s.old, err = s.published(ctx, 2); err != nil {
				return err
			}
		}
		path, err := s.file(other+".txt", other+" was here\n")
		if err != nil {
			return err
		}
		if _, _, err := s.signFile(ctx, path, s.aliceLogin(), other+"@example.com", s.signing, false); err != nil {
			return err
		}
	}
	if result, err = s.verifyFile(s.program, s.bundle); err != nil {
		return err
	}
	t.happened("Anyone can verify it, without asking anybody: signed by %s, who logged in at %s.", result.Identity, result.Issuer)
	if err := s.settle(ctx, 3); err != nil {
		return err
	}
	if events, err := s.events(); err != nil || len(events) > 0 {
		return errors.Join(err, fmt.Errorf("the monitor raised %d alerts about what Alice did herself", len(events)))
	}
	t.happened("Her monitor has read all 3 lines, and says nothing: Alice signing with her own login is what she told it to expect.")
	t.why("there is no key that could be stolen from Alice. Who signs as her has to get in by her login, and every signature leaves a line for all to see.")
	return nil
}

// forge is step 2: signatures that were never logged.
func (s *stage) forge(ctx context.Context, t *teller) error {
	t.tried("Mallory puts her own program in place of Alice's, and leaves Alice's signature beside it.")
	malware, err := s.file("malware.sh", "echo 'all your files are mine'\n")
	if err != nil {
		return err
	}
	if err := s.refusal(t, malware, s.bundle, verify.CheckArtifact); err != nil {
		return err
	}
	t.meaning("Alice signed the content of program.sh, byte for byte. Her signature fits no other program.")
	t.tried("She steals Alice's login for a minute, and signs as Alice, but in secret. The log's operators help: they give her a receipt, signed with the log's own key, for a line that they never put into the public log.")
	if s.entries, err = entriesOf(ctx, s.operator.log, 3); err != nil {
		return err
	}
	s.operator.base = forgery{s.entries}
	signing, err := otherLog(s.signing, s.elsewhere+"/secret")
	if err != nil {
		return err
	}
	bundle, _, err := s.signFile(ctx, malware, s.aliceLogin(), alice, signing, true)
	if err != nil {
		return err
	}
	s.secret = s.operator.secret
	if err := s.refusal(t, malware, bundle, verify.CheckQuorum); err != nil {
		return err
	}
	t.meaning("the log vouches for it, but none of the witnesses has ever seen that log.")
	t.why("a receipt counts only if witnesses have seen the log with that line in it. A secret signature is worthless; and step 5 shows what happens to one that is public.")
	return nil
}

// refusal verifies what must be refused, by the check that finds it.
func (s *stage) refusal(t *teller, path, bundle string, check verify.Check) error {
	_, err := s.verifyFile(path, bundle)
	var refused *verify.Error
	switch {
	case err == nil:
		return &NotCaughtError{filepath.Base(path), errors.New("it was accepted")}
	case !errors.As(err, &refused) || refused.Check != check:
		return &NotCaughtError{filepath.Base(path), fmt.Errorf("it was refused, but not for its %s: %w", check, err)}
	}
	t.refused("\"tallywood verify\" says: %s does not verify: %v.", filepath.Base(path), err)
	return nil
}

// otherLog returns a signing config that names another log.
func otherLog(signing []byte, url string) ([]byte, error) {
	pb, err := root.NewSigningConfigProtobuf(signing)
	if err != nil {
		return nil, err
	}
	for _, l := range pb.GetRekorTlogUrls() {
		l.Url = url
	}
	return protojson.Marshal(pb)
}

// fork is step 3: the log shows another past.
func (s *stage) fork(ctx context.Context, t *teller) error {
	t.tried("The log's operators rewrite the past. Mallory's secret signature takes the place of Alice's, as line 0; the fingerprint is computed anew, and signed with the log's own key.")
	f := forgery{append([][]byte{s.secret}, s.entries[1:]...)}
	checkpoint, err := f.checkpoint(s.operator.signer)
	if err != nil {
		return err
	}
	files, err := f.files(checkpoint)
	if err != nil {
		return err
	}
	if err := s.askAll(ctx, t, len(f.entries), checkpoint); err != nil {
		return err
	}
	t.meaning("this summary did not grow out of the one that they had seen.")
	t.tried("So they show it to Alice's monitor without witnesses.")
	began := time.Now()
	s.operator.show(files, true)
	e, err := s.alert(ctx, rule.LogSplitView, origin)
	if err != nil {
		return err
	}
	t.alert(e, s.page(e), time.Since(began))
	t.meaning("two different lists of %d lines, both under the log's signature.", len(f.entries))
	if err := s.prove(ctx, t, e, "the two summaries, each signed with the log's own key, that cannot both be true"); err != nil {
		return err
	}
	t.why("a log cannot tell one story to Alice and another one to the world. It is found out, and Alice has the proof in hand: only who holds the log's key can have made those two signatures.")
	return s.honest(ctx)
}

// rollBack is step 4: the log shows an old state, on which every signature is genuine.
func (s *stage) rollBack(ctx context.Context, t *teller) error {
	t.tried("The log's operators show the log as it was before Carol signed. Her line is gone, and every signature on that old summary is genuine, those of the witnesses too.")
	if err := s.askAll(ctx, t, len(s.entries)-1, s.old); err != nil {
		return err
	}
	began := time.Now()
	s.operator.show(map[string][]byte{"checkpoint": s.old}, false)
	e, err := s.alert(ctx, rule.LogRollback, origin)
	if err != nil {
		return err
	}
	t.alert(e, s.page(e), time.Since(began))
	if err := s.prove(ctx, t, e, "the old summary, and the newer one that the monitor had seen before"); err != nil {
		return err
	}
	t.why("what was logged once cannot be made to disappear.")
	return s.honest(ctx)
}

// misuse is step 5: a signature with which all is well, but that Alice did not make it.
func (s *stage) misuse(ctx context.Context, t *teller) error {
	t.tried("The log is honest again. Mallory has talked another login service into believing that she is %s, and signs malware as Alice: in the open, with a certificate, a line in the log, and witnesses.", alice)
	malware, err := s.file("update.sh", "echo 'all your files are mine, again'\n")
	if err != nil {
		return err
	}
	began := time.Now()
	bundle, result, err := s.signFile(ctx, malware, s.malloryLogin(), alice, s.signing, false)
	if err != nil {
		return err
	}
	t.happened("It worked: line %d of the log, countersigned by %s. Whoever looks at the name alone is fooled.", result.Index, and(result.Witnesses))
	if err := s.refusal(t, malware, bundle, verify.CheckIssuer); err != nil {
		return err
	}
	t.meaning("the certificate names the login service too, and it is not the one that Alice uses.")
	e, err := s.alert(ctx, rule.IDUnexpected, origin)
	if err != nil {
		return err
	}
	t.alert(e, s.page(e), time.Since(began))
	if err := s.prove(ctx, t, e, "the line itself, and that it is in the log"); err != nil {
		return err
	}
	if _, err := s.alert(ctx, rule.IDUnexpected, "ct.localhost"); err != nil {
		return err
	}
	t.happened("A second alert says the same of the certificate, which is in a log of its own: had Mallory not logged the signature, that alert would have come all the same.")
	t.why("only Alice can know that this signature is not hers. So she is told at once, with the proof, instead of reading about it in the news.")
	return nil
}

// askAll asks all witnesses to cosign, and wants all of them to refuse.
func (s *stage) askAll(ctx context.Context, t *teller, old int, checkpoint []byte) error {
	answers := map[string][]string{}
	var order []string
	for _, w := range s.policy.Witnesses() {
		status, text, err := ask(ctx, w.URL, old, checkpoint)
		if err != nil {
			return err
		}
		if status < 400 || status >= 500 {
			return &NotCaughtError{w.Name, fmt.Errorf("it answered %d: %s", status, text)}
		}
		said := fmt.Sprintf("%s (%d)", strings.ReplaceAll(text, "\n", " "), status)
		if status == http.StatusConflict {
			said = fmt.Sprintf("no, I have seen the log with %s lines (409)", text)
		}
		if answers[said] == nil {
			order = append(order, said)
		}
		answers[said] = append(answers[said], w.Name)
	}
	for _, said := range order {
		t.refused("%s will not countersign it: %s.", and(answers[said]), said)
	}
	return nil
}

// prove verifies the evidence of an alert again, from its files alone, and waits for its page.
func (s *stage) prove(ctx context.Context, t *teller, e monitor.Event, what string) error {
	ev, err := monitor.InspectEvidence(ctx, e.Evidence, monitor.Trust{Policy: s.policy})
	if err != nil {
		return err
	}
	if !ev.Holds {
		return fmt.Errorf("the evidence of %s does not hold: %+v", e.Rule, ev.Checks)
	}
	s.last = e
	t.happened("The evidence is on disk: %s. It was verified once more just now, from these files alone.", what)
	return await(ctx, s.patience, func() (bool, error) {
		_, err := os.Stat(s.page(e))
		return err == nil, nil
	})
}

// and joins names.
func and(names []string) string {
	switch n := len(names); n {
	case 0:
		return "nobody"
	case 1:
		return names[0]
	default:
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
}

// page returns where the page is that says what happened and what to do.
func (s *stage) page(e monitor.Event) string {
	return filepath.Join(s.dir, "pages", "alerts", e.ID+".html")
}

// events returns all alerts that Alice has got.
func (s *stage) events() ([]monitor.Event, error) {
	data, err := os.ReadFile(filepath.Join(s.dir, "alerts.jsonl"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var out []monitor.Event
	for line := range bytes.Lines(data) {
		if !bytes.HasSuffix(line, []byte("\n")) { // still being written
			break
		}
		var e monitor.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("reading alert: %w", err)
		}
		out = append(out, e)
	}
	return out, nil
}

// alert waits for an alert that was not shown yet.
func (s *stage) alert(ctx context.Context, id rule.ID, log string) (monitor.Event, error) {
	var found monitor.Event
	err := await(ctx, s.patience, func() (bool, error) {
		events, err := s.events()
		for _, e := range events[min(s.told, len(events)):] {
			if e.Rule == id && e.Origin == log {
				found = e
				return true, nil
			}
		}
		return false, err
	})
	if errors.Is(err, errTooLong) {
		err = &NotCaughtError{string(id), errors.New("no alert came")}
	}
	return found, err
}

// honest has the log show the truth again, and waits until the monitor has seen it.
func (s *stage) honest(ctx context.Context) error {
	s.operator.show(nil, false)
	if err := s.settle(ctx, int64(len(s.entries))); err != nil {
		return err
	}
	events, err := s.events()
	s.told = len(events)
	return err
}

// published waits for the checkpoint of a size, and returns it: a receipt comes a moment before all
// can read it.
func (s *stage) published(ctx context.Context, size int64) (checkpoint []byte, err error) {
	err = await(ctx, s.patience, func() (bool, error) {
		if checkpoint, err = fetch(ctx, s.operator.log+"/checkpoint"); err != nil {
			return false, err
		}
		cp, err := s.policy.Open(checkpoint)
		return err == nil && cp.Size() == size, err
	})
	return checkpoint, err
}

// settle waits until the monitor has found both logs in order, after now, with so many signatures.
func (s *stage) settle(ctx context.Context, signatures int64) error {
	began := time.Now()
	return await(ctx, s.patience, func() (bool, error) {
		for _, l := range s.monitor.Status() {
			if l.Err != "" || l.Checked.Before(began) || l.Scanned < signatures {
				return false, nil
			}
		}
		return true, nil
	})
}

var errTooLong = errors.New("it takes too long")

// await waits for something that happens soon.
func await(ctx context.Context, patience time.Duration, done func() (bool, error)) error {
	deadline := time.After(patience)
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			return errTooLong
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
